"""MNIST and Fashion-MNIST in the IDX files of their authors, compressed or not."""

import functools
import zlib

import numpy as np

from nvae_tf.data.sources.names import find_files
from nvae_tf.data.stores import ArrayStore

IMAGE_SIZE = 28
_HEADER_BYTES = 16
_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_GZIP_WBITS = 31
_FOLDERS = {
    "mnist": ("mnist", "MNIST", "MNIST/raw"),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
}
_STEMS = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
_STACK_SEED = 0


def _size_in_header(header, path):
    """Bytes of the whole file."""
    if len(header) < _HEADER_BYTES:
        raise ValueError(f"{path}: expected an IDX header of {_HEADER_BYTES} bytes. Received: {len(header)} bytes")
    magic, count, height, width = (int(value) for value in np.frombuffer(header, ">u4", count=4))
    if magic != _MAGIC or (height, width) != (IMAGE_SIZE, IMAGE_SIZE) or count < 1:
        raise ValueError(
            f"{path}: expected IDX magic {_MAGIC:#010x} and 28x28 images. "
            f"Received: magic {magic:#010x}, {count} images of {height}x{width}"
        )
    return _HEADER_BYTES + count * height * width


def _gunzip(path, compressed):
    # A decompressor object, unlike the gzip module, hands out what a truncated file still holds: the message below
    # can then name both sizes. It stops a byte past the size in the header, whatever else the file would unpack to.
    decompressor = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        header = decompressor.decompress(compressed, _HEADER_BYTES)
        rest = _size_in_header(header, path) - len(header)
        data = header + decompressor.decompress(decompressor.unconsumed_tail, rest + 1)
    except zlib.error as error:
        raise ValueError(
            f"{path}: expected a gzip file. Received: {len(compressed)} bytes, damaged ({error})"
        ) from error
    return data, decompressor.eof and not decompressor.unused_data


def read_idx_images(path):
    """Reads one IDX file of 28x28 images.

    Args:
        path: `pathlib.Path`; decompressed if its name ends in .gz.

    Returns:
        uint8, [N, 28, 28, 1].

    Raises:
        ValueError: the file is damaged, cut short or holds something else.
    """
    data, whole = path.read_bytes(), True
    if path.suffix == ".gz":
        data, whole = _gunzip(path, data)
    expected = _size_in_header(data, path)
    count = expected // IMAGE_SIZE**2
    if len(data) != expected:
        more = " or more" if path.suffix == ".gz" and len(data) > expected else ""
        raise ValueError(f"{path}: expected {expected} bytes for {count} images. Received: {len(data)} bytes{more}")
    if not whole:
        raise ValueError(f"{path}: expected one complete gzip stream. Received: a damaged end after {expected} bytes")
    return np.frombuffer(data, np.uint8, offset=_HEADER_BYTES).reshape(count, IMAGE_SIZE, IMAGE_SIZE, 1)


def _named_as(folder):
    """The data set that a folder's name names, or None; FashionMNIST/raw is named by its parent."""
    folder = folder.absolute()
    name = (folder.parent if folder.name == "raw" else folder).name
    key = name.lower().replace("-", "").replace("_", "")
    return {"mnist": "mnist", "fashionmnist": "fashion_mnist"}.get(key)


def _paths(root, name):
    """{split: path} of the data set's files."""
    if _named_as(root) not in (None, name):
        return {}  # the files of both data sets have the same names: the folder's name alone tells them apart
    found = {}
    for split, stem in _STEMS.items():
        for path in find_files(root, _FOLDERS[name], (stem, f"{stem}.gz")):
            found[split] = path
    return found


def _open(path, channels):
    return ArrayStore(read_idx_images(path), channels, str(path))


def find_idx(root, info):
    """MNIST or Fashion-MNIST in a folder, or below it in one of its own name.

    Args:
        root: `pathlib.Path`; a folder that is named as the other of the two is not looked into.
        info: `DatasetInfo` of `mnist` or `fashion_mnist`.

    Returns:
        {"train" and "test", those that are there: function of nothing that gives a store of uint8 [28, 28, 1]}, or
        None. The functions raise `ValueError` for damaged files.
    """
    paths = _paths(root, info.name)
    return {split: functools.partial(_open, path, info.channels) for split, path in paths.items()} or None


def _open_stacked(path):
    images = read_idx_images(path)[..., 0]
    # RandomState's stream is frozen by NumPy's policy, so that the draw never changes.
    random = np.random.RandomState(_STACK_SEED)
    stacked = np.stack([images[random.permutation(len(images))] for _ in range(3)], axis=-1)
    return ArrayStore(stacked, 3, f"{path}, stacked")


def find_stacked_idx(root, info):
    """Stacked MNIST, made of MNIST's files.

    The channels are three permutations of the split, drawn one after another with a fixed seed: every digit is used
    once in each channel, and there are as many images as digits.

    Args:
        root: `pathlib.Path`, as of `find_idx` for MNIST.
        info: `DatasetInfo`.

    Returns:
        As `find_idx`, with stores of uint8 [28, 28, 3].
    """
    paths = _paths(root, "mnist")
    return {split: functools.partial(_open_stacked, path) for split, path in paths.items()} or None
