

def find_celeba_tree(root, info):
    return None
