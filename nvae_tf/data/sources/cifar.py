"""CIFAR-10 in the two formats of its authors, binary and pickled ("python") batches, unpacked or as downloaded."""

import functools
import gzip
import io
import math
import re
import tarfile
import zlib

import numpy as np

from nvae_tf.data.sources.batch_pickle import map_file, pickled_rows
from nvae_tf.data.sources.names import find_files
from nvae_tf.data.stores import ArrayStore

IMAGE_SHAPE = (32, 32, 3)
_NUM_VALUES = math.prod(IMAGE_SHAPE)
_RECORD_BYTES = 1 + _NUM_VALUES
_NUM_LABELS = 10
_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
_PATTERNS = {"train": ("data_batch_[0-9].bin", "data_batch_[0-9]"), "test": ("test_batch.bin", "test_batch")}
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_MEMBERS = {"train": re.compile(r"(.*/)?data_batch_[0-9](\.bin)?"), "test": re.compile(r"(.*/)?test_batch(\.bin)?")}
_MAX_ARCHIVE = 256 << 20  # unpacked they take 177 MiB


def _to_nhwc(planes):
    # Both formats keep the red plane, then green, then blue.
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def binary_batch(data, name):
    """The images of one binary batch: records of a label byte and 3,072 values.

    Args:
        data: the file's bytes.
        name: of the file, for messages.

    Returns:
        uint8, [N, 32, 32, 3].

    Raises:
        ValueError: the size is no multiple of a record, or a label is none of 0 to 9.
    """
    data = np.frombuffer(data, np.uint8)
    if data.size == 0 or data.size % _RECORD_BYTES:
        raise ValueError(f"{name}: expected a multiple of {_RECORD_BYTES} bytes. Received: {data.size} bytes")
    records = data.reshape(-1, _RECORD_BYTES)
    if records[:, 0].max() >= _NUM_LABELS:
        raise ValueError(f"{name}: expected labels of 0 to {_NUM_LABELS - 1}. Received: {records[:, 0].max()}")
    return _to_nhwc(records[:, 1:])


def _batch(data, name):
    return binary_batch(data, name) if name.endswith(".bin") else _to_nhwc(pickled_rows(data, _NUM_VALUES, name))


def _open_batches(paths, channels):
    images = np.concatenate([_batch(map_file(path), str(path)) for path in paths])
    return ArrayStore(images, channels, f"{paths[0].parent} ({', '.join(path.name for path in paths)})")


def _members(path, pattern):
    """[(name, bytes)] of an archive's members, sorted by name; nothing is written to the disk."""
    try:
        with gzip.open(path) as file:
            data = file.read(_MAX_ARCHIVE + 1)
        if len(data) > _MAX_ARCHIVE:
            raise ValueError(f"more than {_MAX_ARCHIVE} bytes when unpacked")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            # A sparse member may claim any size.
            members = [m for m in archive if m.isreg() and not m.issparse() and pattern.fullmatch(m.name)]
            found = [
                (member.name, archive.extractfile(member).read()) for member in sorted(members, key=lambda m: m.name)
            ]
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise
        reason = error
    except (EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        reason = error
    else:
        if found:
            return found
        reason = f"no batches like {pattern.pattern}"
    size = path.stat().st_size
    raise ValueError(f"{path}: expected CIFAR-10's .tar.gz as downloaded. Received: {size} bytes ({reason})")


def _open_archive(path, split, channels):
    members = _members(path, _MEMBERS[split])
    images = np.concatenate([_batch(data, f"{path}: {name}") for name, data in members])
    return ArrayStore(images, channels, f"{path} ({', '.join(name for name, _ in members)})")


def find_cifar(root, info):
    """CIFAR-10 in a folder, or below it in one of its own name; from however many of its batches are present.

    Binary batches are preferred to pickled ones, and both to the archives they came in. An archive is unpacked in
    memory (180 MB) whenever a split is read.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        {"train" and "test", those that are there: function of nothing that gives a store of uint8 [32, 32, 3]}, or
        None. The functions raise `ValueError` for damaged files.
    """
    splits = {}
    for split, patterns in _PATTERNS.items():
        if paths := find_files(root, _FOLDERS, patterns):
            splits[split] = functools.partial(_open_batches, paths, info.channels)
    if not splits:
        for path in find_files(root, (), _ARCHIVES):
            return {split: functools.partial(_open_archive, path, split, info.channels) for split in _MEMBERS}
    return splits or None
