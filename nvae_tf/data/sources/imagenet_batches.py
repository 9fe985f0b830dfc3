

def find_pickled_batches(root, info):
    return None
