

def find_npz(root, info):
    return None
