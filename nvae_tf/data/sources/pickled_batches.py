"""Batches of images as pickled or .npz dicts: the ImageNet 32x32 and 64x64 of the 2021 re-release.

See Chrabaszcz et al., arXiv 1707.08819. The ten batches are loaded one at a time (0.4 GB each at 32x32, 1.6 GB at
64x64). CIFAR-10's pickled batches have the same form.
"""

import functools
import io
import os
import pickle
import re

import numpy as np

from nvae_tf.data.decode import to_channels
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.arrays import array_headers, load_array
from nvae_tf.data.sources.names import find_files
from nvae_tf.data.sources.reading import by_file, named_damage

# The files of a split are all of one kind and in one place.
_PATTERNS = {
    "train": ("train_data_batch_*.npz", "train_data_batch_*"),
    "validation": ("val_data.npz", "val_data"),
}
# Folders that the official archives unpack to; 64x64 comes in two parts.
_FOLDER_PATTERNS = {"train": "Imagenet{size}_train*", "validation": "Imagenet{size}_val*"}
_LONG = 1 << 16
_NUMBER = re.compile(r"train_data_batch_(\d+)(\.npz)?")
# All that a pickled array needs, with NumPy's old and new module names.
_ALLOWED = {
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
}


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler that builds only arrays and plain containers, because a pickle can call any function it names."""

    def find_class(self, module, name):
        if f"{module}.{name}" not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong in a batch of images")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


class _ShapesOnly(io.BufferedReader):
    """A file whose long values are skipped: arrays get their shapes, but arbitrary values."""

    def readinto(self, buffer):
        if len(buffer) < _LONG:
            return super().readinto(buffer)
        end = self.seek(len(buffer), os.SEEK_CUR)
        return len(buffer) if end <= os.fstat(self.fileno()).st_size else 0


def load_pickled_rows(file, num_values, name):
    """The images in a pickled dict, a uint8 array under b"data" or "data"; nothing in the pickle is executed.

    Returns uint8 [N, num_values]; raises ValueError for anything else.
    """
    with named_damage(name, "a pickled dict with an array b'data'"):
        batch = _BatchUnpickler(file, encoding="bytes").load()
        rows = batch[b"data" if b"data" in batch else "data"]
    _check(name, np.shape(rows), getattr(rows, "dtype", type(rows).__name__), num_values)
    return rows


def _check(name, shape, dtype, num_values):
    if dtype != np.uint8 or len(shape) != 2 or shape[0] < 1 or shape[1] != num_values:
        raise ValueError(f"{name}: expected 'data' as uint8 [N, {num_values}]. Received: {dtype} {list(shape)}")


def to_images(rows, size):
    """uint8 [..., size, size, 3] of rows [..., 3 * size * size] that hold the red plane, then green, then blue."""
    planes = rows.reshape(*rows.shape[:-1], 3, size, size)
    return np.ascontiguousarray(np.moveaxis(planes, -3, -1))


def _load(path, num_values):
    if path.suffix == ".npz":
        return load_array(path, "data")
    with open(path, "rb") as file:
        return load_pickled_rows(file, num_values, str(path))


def _count_images(path, num_values):
    if path.suffix != ".npz":
        with io.FileIO(path) as file:
            return len(load_pickled_rows(_ShapesOnly(file), num_values, str(path)))
    shape, dtype = array_headers(path).get("data", ((), None))
    _check(path, shape, dtype, num_values)
    return shape[0]


def _read(paths, counts, size, channels, indices):
    for path, rows_wanted in by_file(paths, counts, indices):
        rows = _load(path, 3 * size**2)
        for row in rows_wanted:
            name = f"{path}, image {row}"
            yield name, to_channels(to_images(rows[row], size), channels, name)
        del rows  # frees the memory before the next batch is loaded


def _open(paths, size, channels):
    counts = [_count_images(path, 3 * size**2) for path in paths]
    source = f"{paths[0].parent} ({paths[0].name} to {paths[-1].name})" if paths[1:] else str(paths[0])
    read = functools.partial(_read, paths, counts, size, channels)
    return SourceSplit(source, sum(counts), read, tuple(paths), decodes=False)


def _batches(root, split, size):
    """Paths of a split's batches, in order."""
    folder = _FOLDER_PATTERNS[split].format(size=size)
    for pattern in _PATTERNS[split] + tuple(f"{folder}/{pattern}" for pattern in _PATTERNS[split]):
        paths = find_files(root, (), (pattern,))
        if split == "train":
            numbered = ((_NUMBER.fullmatch(path.name), path) for path in paths)
            paths = [path for _, path in sorted((int(match[1]), path) for match, path in numbered if match)]
        if paths:
            return paths
    return []


def find_pickled_batches(root, info):
    """Finds train_data_batch_1, ... and val_data, pickled or .npz, in a folder or where their archives put them.

    A batch whose images are not of the data set's size is an error.
    """
    size = info.stored_size
    splits = {split: _batches(root, split, size) for split in _PATTERNS}
    return {
        split: functools.partial(_open, paths, size, info.channels) for split, paths in splits.items() if paths
    } or None
