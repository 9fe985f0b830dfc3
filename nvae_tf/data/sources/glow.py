

def find_glow(root, info):
    return None
