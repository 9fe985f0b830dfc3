

def find_prepared(root, info):
    return None
