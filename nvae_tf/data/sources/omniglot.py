

def find_omniglot_mat(root, info):
    return None


def find_omniglot_tree(root, info):
    return None
