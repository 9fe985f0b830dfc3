"""The TFRecords of Glow: raw pixels with their shape, in shards NAME-0000-of-0040.tfrecords."""

import functools
import itertools
import math
import re

import numpy as np

from nvae_tf.data.decode import DamagedImageError, to_channels
from nvae_tf.data.records import RecordFiles, decode_example

_SHARD = re.compile(r"(?P<stem>.+)-(?P<shard>\d{1,9})-of-(?P<count>\d{1,9})(\.tfrecords?)?")
_SINGLE = re.compile(r"(?P<stem>.+)\.tfrecords?")
_SPLIT = re.compile(r"(train|validation|valid|val|test)(?![a-zA-Z])")
_RESOLUTION = re.compile(r"-r(\d{1,2})(?!\d)")
_SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
# A damaged first record does not say whose file it is; so many are looked at.
_NUM_PROBED = 10


class GlowStore:
    """Images of Glow's records: an Example with shape (H, W, C) and data (uint8) each.

    Args:
        paths: of the shards, in order.
        channels: of the data set.
    """

    def __init__(self, paths, channels):
        self.records, self.channels = RecordFiles(paths), channels
        self.source = f"{len(paths)} TFRecord files, {paths[0]} and so on" if len(paths) > 1 else str(paths[0])

    def __len__(self):
        return len(self.records)

    def name(self, index):
        return self.records.name(index)

    def read(self, index):
        name = self.name(index)
        features = decode_example(self.records.read(index), name)
        shape, data = _shape_and_data(features)
        if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != len(data):
            raise DamagedImageError(
                f"{name}: expected a shape [H, W, C] and H * W * C bytes. Received: {shape[:8]} and {len(data)} bytes"
            )
        return to_channels(np.frombuffer(data, np.uint8).reshape(shape), self.channels, name)


def _shape_and_data(features):
    data = features["data"].bytes_list.value if "data" in features else ()
    return list(features["shape"].int64_list.value) if "shape" in features else [], data[0] if data else b""


def _is_glow(path):
    records = RecordFiles([path])
    for index in range(min(len(records), _NUM_PROBED)):
        try:
            features = decode_example(records.read(index), records.name(index))
        except DamagedImageError:
            continue
        return "shape" in features and "data" in features
    return False


def _shards(folder):
    """{(stem, number of shards): {number: path}} of the record files in a folder."""
    groups = {}
    for path in sorted(folder.iterdir()):
        match = _SHARD.fullmatch(path.name)
        single = None if match else _SINGLE.fullmatch(path.name)
        if (match or single) and path.is_file():
            key = (match["stem"], int(match["count"])) if match else (single["stem"], 1)
            groups.setdefault(key, {})[int(match["shard"]) if match else 0] = path
    return groups


def _groups(root):
    """[(split or "all", folder, stem, count, {number: path})] of the first place that has any."""
    for place in (root, *sorted(path for path in root.glob("*tfr*") if path.is_dir())):
        folders = [(split, place / name) for name, split in _SPLIT_NAMES.items() if (place / name).is_dir()]
        for pairs in (folders, [(None, place)]):
            found = []
            for split, folder in pairs:
                for (stem, count), shards in _shards(folder).items():
                    match = _SPLIT.match(stem)
                    name = split or (_SPLIT_NAMES[match[1]] if match else "all")
                    found.append((name, folder, stem, count, shards))
            if found:
                return found
    return []


def _of_resolution(groups, info, root):
    """Those of the data set's size, where the names hold the logarithm of theirs (-r08-: 256)."""
    sizes = [_RESOLUTION.search(stem) for _, _, stem, _, _ in groups]
    if not any(sizes):
        return groups
    kept = [group for group, size in zip(groups, sizes, strict=True) if size and 2 ** int(size[1]) == info.stored_size]
    if not kept:
        there = sorted({2 ** int(size[1]) for size in sizes if size})
        raise ValueError(f"{root}: expected TFRecords of images of {info.stored_size} pixels a side. Received: {there}")
    return kept


def _complete(folder, stem, count, shards):
    """Paths in order; raises `ValueError` naming the first shard that is not there."""
    missing = next(number for number in itertools.count() if number not in shards)
    if missing < count:
        raise ValueError(f"{folder}: expected {count} files {stem}-*-of-{count}. Received: none with number {missing}")
    if len(shards) > count:
        raise ValueError(f"{folder}: expected {count} files {stem}-*-of-{count}. Received: {len(shards)}")
    return [shards[number] for number in range(count)]


def find_glow(root, info):
    """Glow's TFRecords in a folder.

    The splits are those of the folders train/, validation/ (valid/, val/) and test/, or of the names' beginning, else
    "all" alone. Where the names hold a resolution (-r08- is 2 ** 8 = 256 pixels), those of the data set's size count.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        {split: function of nothing that gives a store}, or None where there are none of Glow's.

    Raises:
        ValueError: a shard is missing, no shards of the size, shards of several sets, or a file is cut short.
    """
    groups = _groups(root)
    if not groups or not _is_glow(next(iter(groups[0][-1].values()))):
        return None
    by_split = {}
    for split, *group in _of_resolution(groups, info, root):
        by_split.setdefault(split, []).append(group)
    for split, group in by_split.items():
        if len(group) > 1:
            stems = [f"{stem} (of {count})" for _, stem, count, _ in group]
            raise ValueError(f"{root}: expected one set of TFRecords for {split}. Received: {', '.join(stems)}")
    return {
        split: functools.partial(GlowStore, _complete(*group[0]), info.channels) for split, group in by_split.items()
    }
