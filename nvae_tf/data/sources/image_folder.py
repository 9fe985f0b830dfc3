

def find_image_folder(root, info):
    return None
