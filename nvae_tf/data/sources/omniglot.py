"""OMNIGLOT: chardata.mat with the published split and 28x28 images, or the image files of its authors."""

import functools
import struct
import zlib

import numpy as np

from nvae_tf.data.sources.batch_pickle import map_file
from nvae_tf.data.sources.image_folder import ImageFolderStore, image_names
from nvae_tf.data.sources.mat_file import mat_array
from nvae_tf.data.sources.names import find_files
from nvae_tf.data.sources.zip_file import ZipStore, read_entries
from nvae_tf.data.stores import ArrayStore

_FOLDERS = ("omniglot", "OMNIGLOT")
_MAT_FILE = "chardata.mat"
_MAT_KEYS = {"train": "data", "test": "testdata"}
_SIZE = 28
_MAX_BYTES = 1 << 29  # there are 24,345 and 8,070 images of 784 numbers of 8 bytes
_TREE_FOLDERS = (*_FOLDERS, "omniglot-py", "python")  # as torchvision and the authors' repository name it
_TREES = {"train": "images_background", "test": "images_evaluation"}


class InvertedStore:
    """The images of another store, black for white: ink is white in chardata.mat, and black in the image files.

    Args:
        store: the other store.
    """

    def __init__(self, store):
        self.store, self.source = store, store.source

    def __len__(self):
        return len(self.store)

    def name(self, index):
        return self.store.name(index)

    def read(self, index):
        return 255 - self.store.read(index)


def _load_columns(path, key):
    """Array [784, N] of a .mat file; raises `ValueError` for anything else."""
    data = map_file(path)
    try:
        columns = mat_array(data, key, _MAX_BYTES)
        shape = "none" if columns is None else columns.shape
        if len(shape) != 2 or shape[0] != _SIZE**2 or shape[1] < 1:
            raise ValueError(f"{key!r} of shape {shape}")
    except (ValueError, struct.error, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a .mat file of version 5 with {key!r} of [{_SIZE**2}, N]. "
            f"Received: {len(data)} bytes ({error})"
        ) from error
    return columns


def _open_mat(path, split, channels):
    key = _MAT_KEYS[split]
    columns = _load_columns(path, key)
    # NaN fails either comparison.
    good = ((columns >= 0) & (columns <= 1)).all(axis=0)
    if not good.all():
        column = int(np.argmin(good))
        low, high = columns[:, column].min(), columns[:, column].max()
        raise ValueError(f"{path}: expected values of 0 to 1 in column {column} of {key!r}. Received: {low} to {high}")
    # A column holds an image column by column.
    images = np.rint(255.0 * columns).astype(np.uint8).T.reshape(-1, _SIZE, _SIZE).transpose(0, 2, 1)
    return ArrayStore(np.ascontiguousarray(images[..., np.newaxis]), channels, f"{path}, {key}")


def find_omniglot_mat(root, info):
    """chardata.mat (Burda et al., arXiv 1509.00519) in a folder or in `omniglot` below it.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        {"train" and "test": function of nothing that gives a store of uint8 [28, 28, 1], ink white}, or None. The
        functions raise `ValueError` for a damaged file and for values out of range.
    """
    for path in find_files(root, _FOLDERS, (_MAT_FILE,)):
        return {split: functools.partial(_open_mat, path, split, info.channels) for split in _MAT_KEYS}
    return None


def _open_tree(path, channels):
    if path.is_dir():
        return InvertedStore(ImageFolderStore(path, sorted(image_names(path)), channels))
    return InvertedStore(ZipStore(path, read_entries(path), channels))


def find_omniglot_tree(root, info):
    """The image files of its authors, images_background (train) and images_evaluation (test), or their .zip files.

    Their ink is black; it is made white, as in chardata.mat. They are 105x105.

    Args:
        root: `pathlib.Path`, which holds them itself or in a folder `omniglot`, `omniglot-py` or `python`.
        info: `DatasetInfo`.

    Returns:
        {"train" and "test", those that are there: function of nothing that gives a store of uint8 [105, 105, 1], ink
        white}, or None. The functions raise `ValueError` for a damaged .zip file.
    """
    for place in (root, *(root / name for name in _TREE_FOLDERS)):
        paths = {split: (place / name, place / f"{name}.zip") for split, name in _TREES.items()}
        found = {
            split: functools.partial(_open_tree, folder if folder.is_dir() else archive, info.channels)
            for split, (folder, archive) in paths.items()
            if folder.is_dir() or archive.is_file()
        }
        if found:
            return found
    return None
