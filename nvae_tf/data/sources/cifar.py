"""CIFAR-10 in the two formats of its authors, binary and pickled ("python") batches, unpacked or as downloaded."""

import functools
import io
import re
import tarfile

import numpy as np

from nvae_tf.data.sources.names import find_files
from nvae_tf.data.sources.pickled_batches import load_pickled_rows, to_images
from nvae_tf.data.sources.reading import array_split, named_damage

_SIZE = 32
_NUM_VALUES = 3 * _SIZE**2
_RECORD_BYTES = 1 + _NUM_VALUES
_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
_PATTERNS = {"train": ("data_batch_[0-9].bin", "data_batch_[0-9]"), "test": ("test_batch.bin", "test_batch")}
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_MEMBERS = {"train": re.compile(r"(.*/)?data_batch_[0-9](\.bin)?"), "test": re.compile(r"(.*/)?test_batch(\.bin)?")}


def _batch(file, name):
    """uint8 [N, 32, 32, 3] of a batch: records of a label byte and 3,072 values, or a pickle."""
    if not name.endswith(".bin"):
        return to_images(load_pickled_rows(file, _NUM_VALUES, name), _SIZE)
    data = np.frombuffer(file.read(), np.uint8)
    if data.size == 0 or data.size % _RECORD_BYTES:
        raise ValueError(f"{name}: expected a multiple of {_RECORD_BYTES} bytes. Received: {data.size} bytes")
    return to_images(data.reshape(-1, _RECORD_BYTES)[:, 1:], _SIZE)


def _load_batches(paths):
    return np.concatenate([_batch(io.BytesIO(path.read_bytes()), str(path)) for path in paths])


def _open_batches(paths, channels):
    source = f"{paths[0].parent} ({', '.join(path.name for path in paths)})"
    return array_split(source, paths, functools.partial(_load_batches, paths), channels)


def _load_archive(path, split):
    """Loads the batches of an archive, in the order of their names; nothing is written to disk."""
    with named_damage(path, "CIFAR-10's .tar.gz as downloaded"), tarfile.open(path) as archive:
        batches = {}
        for member in archive:
            if member.isreg() and _MEMBERS[split].fullmatch(member.name):
                batches[member.name] = _batch(archive.extractfile(member), member.name)
        return np.concatenate([batches[name] for name in sorted(batches)])


def _open_archive(path, split, channels):
    return array_split(f"{path}, {split}", [path], functools.partial(_load_archive, path, split), channels)


def find_cifar(root, info):
    """Finds CIFAR-10 in a folder, or in a subfolder of its own name, with whichever of its batches exist.

    Binary batches are preferred to pickled ones, and both to their archives. An archive is unpacked in
    memory (180 MB) whenever a split is read.
    """
    splits = {}
    for split, patterns in _PATTERNS.items():
        if paths := find_files(root, _FOLDERS, patterns):
            splits[split] = functools.partial(_open_batches, paths, info.channels)
    if not splits:
        for path in find_files(root, (), _ARCHIVES):
            return {split: functools.partial(_open_archive, path, split, info.channels) for split in _MEMBERS}
    return splits or None
