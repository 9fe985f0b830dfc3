"""MNIST in the IDX files of its authors, compressed or not."""

import zlib

import numpy as np

from nvae_tf.data.sources.finding import find_files

IMAGE_SIZE = 28
_HEADER_BYTES = 16
_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_GZIP_WBITS = 31
_FOLDERS = ("mnist", "MNIST", "MNIST/raw")
_STEMS = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}


def _gunzip(path, compressed):
    # A decompressor object, unlike the gzip module, hands out what a truncated file still holds: the message below
    # can then name both sizes.
    decompressor = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        data = decompressor.decompress(compressed)
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
    if len(data) < _HEADER_BYTES:
        raise ValueError(f"{path}: expected an IDX header of {_HEADER_BYTES} bytes. Received: {len(data)} bytes")
    magic, count, height, width = (int(value) for value in np.frombuffer(data, ">u4", count=4))
    if magic != _MAGIC or (height, width) != (IMAGE_SIZE, IMAGE_SIZE) or count < 1:
        raise ValueError(
            f"{path}: expected IDX magic {_MAGIC:#010x} and 28x28 images. "
            f"Received: magic {magic:#010x}, {count} images of {height}x{width}"
        )
    expected = _HEADER_BYTES + count * height * width
    if len(data) != expected:
        raise ValueError(f"{path}: expected {expected} bytes for {count} images. Received: {len(data)} bytes")
    if not whole:
        raise ValueError(f"{path}: expected one complete gzip stream. Received: a damaged end after {expected} bytes")
    return np.frombuffer(data, np.uint8, offset=_HEADER_BYTES).reshape(count, height, width, 1)


def read_mnist(data_dir, split):
    """Reads MNIST's images of a split, without padding.

    Args:
        data_dir: folder of the IDX files, or its parent.
        split: `"train"` or `"test"`.

    Returns:
        uint8, [N, 28, 28, 1].

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: a file is damaged.
    """
    stem = _STEMS[split]
    return read_idx_images(find_files(data_dir, _FOLDERS, (stem, f"{stem}.gz"))[0])


def find_idx(root, info):
    return None


def find_stacked_idx(root, info):
    return None
