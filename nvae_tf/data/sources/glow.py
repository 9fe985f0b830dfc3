"""The TFRecords of Glow: raw pixels with their shape, in shards NAME-0000-of-0040.tfrecords."""

import functools
import math
import os
import re
import struct

import numpy as np

from nvae_tf.data.decode import DamagedImageError, to_channels
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import SPLIT_NAMES
from nvae_tf.data.sources.reading import by_file, named_damage

_SHARD = re.compile(r"(?P<stem>.+?)(-(?P<number>\d{1,9})-of-(?P<count>\d{1,9})(\.tfrecords?)?|\.tfrecords?)")
_RESOLUTION = re.compile(r"-r(\d{1,2})(?!\d)")


def _records(path):
    import tensorflow as tf

    return tf.data.TFRecordDataset(str(path))


@functools.cache
def _count_records(path):
    # Only the headers are read (uint64 length, uint32 checksum), because a set can have many gigabytes.
    count = 0
    with named_damage(path, "TFRecords"), open(path, "rb", buffering=0) as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q4x", header)
            file.seek(length + 4, os.SEEK_CUR)  # another checksum follows the record
            count += 1
        if file.tell() != os.path.getsize(path):
            raise ValueError("a truncated record")
    return count


def _features(record):
    """The features of a `tf.train.Example`; empty for any other record."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example

    try:
        return Example.FromString(record.numpy()).features.feature
    except DecodeError:
        return {}


def _image(features, channels, name):
    shape = list(features["shape"].int64_list.value) if "shape" in features else []
    data = b"".join(features["data"].bytes_list.value) if "data" in features else b""
    if len(shape) != 3 or shape[2] not in (1, 3, 4) or min(shape) < 1 or math.prod(shape) != len(data):
        return DamagedImageError(
            f"{name}: expected a shape [H, W, 1, 3 or 4] and as many bytes. Received: {shape[:8]} and {len(data)} bytes"
        )
    return to_channels(np.frombuffer(data, np.uint8).reshape(shape), channels, name)


def _read(paths, counts, channels, indices):
    for path, wanted in by_file(paths, counts, indices):
        first, last, wanted = wanted[0], wanted[-1], set(wanted.tolist())
        with named_damage(path, "TFRecords"):
            for number, record in enumerate(_records(path).skip(first).take(last - first + 1), first):
                if number in wanted:
                    name = f"{path}, record {number}"
                    yield name, _image(_features(record), channels, name)


def _open(paths, channels):
    counts = [_count_records(path) for path in paths]
    source = f"{len(paths)} TFRecord files, {paths[0]} and so on" if len(paths) > 1 else str(paths[0])
    return SourceSplit(source, sum(counts), functools.partial(_read, paths, counts, channels), tuple(paths))


def _sets(folder):
    """{(stem, number of shards): {number: path}} of the record files in a folder."""
    sets = {}
    for path in sorted(folder.iterdir()):
        match = _SHARD.fullmatch(path.name)
        if match and path.is_file():
            sets.setdefault((match["stem"], int(match["count"] or 1)), {})[int(match["number"] or 0)] = path
    return sets


def _sets_of_splits(root):
    """{split or "all": sets} in the first place that has record files."""
    for place in (root, *sorted(path for path in root.glob("*tfr*") if path.is_dir())):
        found = {}
        for name, split in SPLIT_NAMES.items():
            if (place / name).is_dir() and (sets := _sets(place / name)):
                found.setdefault(split, {}).update(sets)
        if not found:
            for (stem, count), shards in _sets(place).items():
                split = SPLIT_NAMES.get(re.match("[a-zA-Z]*", stem)[0], "all")
                found.setdefault(split, {})[stem, count] = shards
        if found:
            return found
    return {}


def _complete(sets, split, size, root):
    """Paths of a split's shards, in order; raises `ValueError` if they belong to several sets or one is missing."""
    sizes = {stem: 2 ** int(match[1]) for stem, _ in sets if (match := _RESOLUTION.search(stem))}
    if sizes and size not in sizes.values():
        received = sorted(set(sizes.values()))
        raise ValueError(f"{root}: expected TFRecords of images of {size} pixels a side. Received: {received}")
    sets = {key: shards for key, shards in sets.items() if not sizes or sizes.get(key[0]) == size}
    if len(sets) > 1:
        received = ", ".join(f"{stem} (of {count})" for stem, count in sets)
        raise ValueError(f"{root}: expected one set of TFRecords for {split}. Received: {received}")
    [((stem, count), shards)] = sets.items()
    missing = next((number for number in range(count) if number not in shards), None)
    if missing is not None:
        raise ValueError(f"{root}: expected {count} files {stem}-*-of-{count}. Received: none with number {missing}")
    return [shards[number] for number in range(count)]


def find_glow(root, info):
    """Finds Glow's TFRecords in a folder.

    Folders train/, validation/ (valid/, val/) and test/ are the splits, or else the names begin with the split, or else
    there is only "all". If the names give a resolution (-r08- is 2 ** 8 = 256 pixels), it must be the data set's.

    Raises:
        ValueError: a shard is missing, no shard has the right size, or there are shards of several sets.
    """
    size = info.stored_size
    found = _sets_of_splits(root)
    first = next((path for sets in found.values() for shards in sets.values() for path in shards.values()), None)
    if first is None:
        return None
    with named_damage(first, "TFRecords"):
        features = next(map(_features, _records(first)), {})
    if "shape" not in features or "data" not in features:
        return None
    return {
        split: functools.partial(_open, _complete(sets, split, size, root), info.channels)
        for split, sets in found.items()
    }
