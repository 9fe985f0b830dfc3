

def find_zip(root, info):
    return None
