"""OMNIGLOT: chardata.mat with the published split and 28x28 images, or the image files of its authors."""

import dataclasses
import functools

import numpy as np

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.image_folder import file_split, list_images
from nvae_tf.data.sources.names import find_files
from nvae_tf.data.sources.reading import array_split, named_damage
from nvae_tf.data.sources.zip_file import list_zip, zip_split

_FOLDERS = ("omniglot", "OMNIGLOT")
_MAT_KEYS = {"train": "data", "test": "testdata"}
_SIZE = 28
_TREE_FOLDERS = (*_FOLDERS, "omniglot-py", "python")  # the names that torchvision and the authors' repository use
_TREES = {"train": "images_background", "test": "images_evaluation"}


def _load_mat(path, key):
    """The drawings of chardata.mat with white ink, uint8 [N, 28, 28]."""
    import scipy.io

    with named_damage(path, "a .mat file"):
        columns = scipy.io.loadmat(path, variable_names=[key]).get(key)
    shape = np.shape(columns)
    if len(shape) != 2 or shape[0] != _SIZE**2 or shape[1] < 1 or columns.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected {key!r} as numbers [{_SIZE**2}, N]. Received: {list(shape)}")
    if not (columns.min() >= 0 and columns.max() <= 1):  # NaN fails both comparisons
        received = f"{columns.min()} to {columns.max()}"
        raise ValueError(f"{path}: expected values of 0 to 1 in {key!r}. Received: {received}")
    # A column of the matrix holds an image, column by column.
    return np.rint(255.0 * columns).astype(np.uint8).T.reshape(-1, _SIZE, _SIZE).transpose(0, 2, 1)


def _open_mat(path, key, channels):
    return array_split(f"{path}, {key}", [path], functools.partial(_load_mat, path, key), channels)


def find_omniglot_mat(root, info):
    """Finds chardata.mat (Burda et al., arXiv 1509.00519) in a folder or in `omniglot` below it."""
    for path in find_files(root, _FOLDERS, ("chardata.mat",)):
        return {split: functools.partial(_open_mat, path, key, info.channels) for split, key in _MAT_KEYS.items()}
    return None


def inverted(split):
    """The same `SourceSplit` with black and white exchanged: ink is white in chardata.mat, and black in the files."""
    return dataclasses.replace(split, read=functools.partial(_read_inverted, split.read))


def _read_inverted(read, indices):
    for name, image in read(indices):
        yield name, image if isinstance(image, DamagedImageError) else 255 - image


def _open_tree(path, channels):
    if path.is_dir():
        return inverted(file_split(path, list_images(path)[0], channels))
    return inverted(zip_split(path.parent, list_zip(path)[0], channels))


def find_omniglot_tree(root, info):
    """Finds the authors' image files, images_background (train) and images_evaluation (test), or their .zip files.

    They lie in the folder or below it in `omniglot`, `omniglot-py` or `python`. The images are 105x105 with black ink
    and are inverted.
    """
    for place in (root, *(root / name for name in _TREE_FOLDERS)):
        found = {}
        for split, name in _TREES.items():
            for path in (place / name, place / f"{name}.zip"):
                if path.exists():
                    found.setdefault(split, functools.partial(_open_tree, path, info.channels))
        if found:
            return found
    return None
