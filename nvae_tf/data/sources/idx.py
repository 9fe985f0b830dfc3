"""MNIST and Fashion-MNIST in the IDX files of their authors, compressed or not, and stacked MNIST drawn from MNIST."""

import functools
import gzip

import numpy as np

from nvae_tf.data.sources.names import find_files
from nvae_tf.data.sources.reading import array_split, named_damage

_SIZE = 28
_HEADER_BYTES = 16
_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_FOLDERS = {
    "mnist": ("mnist", "MNIST", "MNIST/raw"),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
}
_STEMS = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
_STACK_SEED = 0


def _read(path, size=-1):
    """The first bytes of a file, or all of them, decompressed if its name ends in .gz."""
    with named_damage(path, "a gzip file"), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        return file.read(size)


def _count_images(path):
    header = _read(path, _HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise ValueError(f"{path}: expected an IDX header of {_HEADER_BYTES} bytes. Received: {len(header)} bytes")
    magic, count, height, width = np.frombuffer(header, ">u4").tolist()
    if magic != _MAGIC or (height, width) != (_SIZE, _SIZE) or count < 1:
        raise ValueError(
            f"{path}: expected IDX magic {_MAGIC:#010x} and 28x28 images. "
            f"Received: magic {magic:#010x}, {count} images of {height}x{width}"
        )
    return count


def _load(path):
    """uint8 [N, 28, 28, 1]."""
    count, data = _count_images(path), _read(path)
    expected = _HEADER_BYTES + count * _SIZE**2
    if len(data) != expected:
        raise ValueError(f"{path}: expected {expected} bytes for {count} images. Received: {len(data)} bytes")
    return np.frombuffer(data, np.uint8, offset=_HEADER_BYTES).reshape(count, _SIZE, _SIZE, 1)


def _named_as(folder):
    """The data set that a folder is named after, or None; for FashionMNIST/raw the parent's name counts."""
    folder = folder.absolute()
    name = (folder.parent if folder.name == "raw" else folder).name
    key = name.lower().replace("-", "").replace("_", "")
    return {"mnist": "mnist", "fashionmnist": "fashion_mnist"}.get(key)


def _paths(root, name):
    """{split: path} of the data set's files."""
    if _named_as(root) not in (None, name):
        return {}  # the files of both data sets have the same names: only the folder's name tells them apart
    found = {split: find_files(root, _FOLDERS[name], (stem, f"{stem}.gz")) for split, stem in _STEMS.items()}
    return {split: paths[0] for split, paths in found.items() if paths}


def _load_stacked(path):
    images = _load(path)[..., 0]
    # NumPy guarantees the stream of RandomState, so the draw never changes.
    random = np.random.RandomState(_STACK_SEED)
    return np.stack([images[random.permutation(len(images))] for _ in range(3)], axis=-1)


def _open(path, info):
    name, load = (f"{path}, stacked", _load_stacked) if info.name == "stacked_mnist" else (str(path), _load)
    return array_split(name, [path], functools.partial(load, path), info.channels, _count_images(path))


def find_idx(root, info):
    """Finds MNIST, Fashion-MNIST or stacked MNIST in a folder, or in a subfolder of its own name.

    A folder that is named after the other of the two sets of files is skipped. The channels of stacked MNIST are three
    permutations of the split, drawn one after the other with a fixed seed: every digit occurs once in each channel,
    and there are as many images as digits.
    """
    paths = _paths(root, "mnist" if info.name == "stacked_mnist" else info.name)
    return {split: functools.partial(_open, path, info) for split, path in paths.items()} or None
