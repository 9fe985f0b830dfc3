

def find_tfds(root, info):
    return None
