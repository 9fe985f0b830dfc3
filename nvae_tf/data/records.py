"""Prepared data sets: manifest.json, and shards of PNG files that can be read in any order.

A shard is an ArrayRecord file whose records are PNG files. The manifest describes the shards without reference to the
machine on which they were made.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os

import numpy as np

from nvae_tf.config.data import DRAWN_BY
from nvae_tf.data.decode import DamagedImageError, decode
from nvae_tf.data.source import SourceSplit
from nvae_tf.files import file_sum, write_json

MANIFEST = "manifest.json"
SUFFIX = ".array_record"
VERSION = 3  # version 2 has no fingerprints and names, and is still read
_FORMAT = "nvae_tf prepared images"
_AGAIN = "tools/prepare_data.py writes it again; a folder in the cache can be removed"
# For reading single records: without read-ahead and without threads.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """One file of PNG images.

    Attributes:
        file: name of the file in the folder.
        num_images: number of records.
        bytes, sha256: size and checksum of the whole file.
        sums: sum of the pixel values of each channel.
        damaged: [index in the split, name] of each image of the source that is left out because it could not be read.
        names: `SourceSplit.names` of these images, damaged ones included.
        fingerprint: `fingerprint_text` of the records; "" if not known.
    """

    file: str
    num_images: int
    bytes: int
    sha256: str
    sums: list
    damaged: list
    names: list | None = None
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a prepared data set.

    Attributes:
        dataset: name in `nvae_tf.data.datasets`.
        source: format that it was read from, a name in `nvae_tf.data.sources.SOURCES`.
        image_size, channels: size and channels of every image.
        resize: whether images of any size were resized.
        split_seed, test_fraction, split_rule: seed, fraction and rule of the split, if the source has none.
        splits: {split: list of `Shard`, in order}.
        drawn: whether the split was drawn; None if not known.
        files: `files_digest` of the source, without times; "" if not known.
    """

    dataset: str
    source: str
    image_size: int
    channels: int
    resize: bool
    split_seed: int
    test_fraction: float
    splits: dict
    split_rule: str = "permutation"
    drawn: bool | None = None
    files: str = ""

    def shards(self):
        """The shards of all splits."""
        return [shard for shards in self.splits.values() for shard in shards]

    def damaged(self, split):
        """[index, name] of each damaged image of a split."""
        return [entry for shard in self.splits[split] for entry in shard.damaged]

    def mean(self, split):
        """Mean of each channel of a split's images, 0 to 255."""
        shards = self.splits[split]
        num_pixels = sum(shard.num_images for shard in shards) * self.image_size**2
        return [sum(sums) / num_pixels for sums in zip(*(shard.sums for shard in shards), strict=True)]


def write_manifest(folder, manifest):
    """Writes FOLDER/manifest.json."""
    write_json(folder / MANIFEST, {"format": _FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}, indent=1)


def read_manifest(folder):
    """The `Manifest` of a folder, or None if it has none of ours; raises ValueError for a damaged or older one."""
    path = folder / MANIFEST
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if _FORMAT not in text:
        return None
    try:
        values = json.loads(text)
        version = values.pop("version")
        if version in (2, VERSION):
            splits = {split: [Shard(**shard) for shard in shards] for split, shards in values.pop("splits").items()}
            del values["format"]
            manifest = Manifest(splits=splits, **values)
            if all(os.path.basename(shard.file) == shard.file for shard in manifest.shards()):
                return manifest
            raise ValueError("a shard outside of the folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a manifest of prepared images. Received: {error}") from error
    raise ValueError(
        f"{path}: version: expected {VERSION}. Received: {version!r}; remove the folder and prepare the data set again "
        "with tools/prepare_data.py"
    )


def _is_intact(folder, shard):
    path = folder / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes and file_sum(path) == shard.sha256


def find_damaged(folder, shards, num_threads=1):
    """Names of the shards that are missing or differ from their checksums."""
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        intact = pool.map(functools.partial(_is_intact, folder), shards)
        return [shard.file for shard, good in zip(shards, intact, strict=True) if not good]


class PreparedRecords:
    """The PNG files of one prepared split, which can be read in any order and from any thread.

    Args:
        folder: `pathlib.Path` of the prepared set.
        shards: list of `Shard`.

    Attributes:
        damaged: int64 array of the indices of the source's damaged images, which have no record.
    """

    def __init__(self, folder, shards):
        self._paths = [str(folder / shard.file) for shard in shards]
        self._counts = [shard.num_images for shard in shards]
        self._ends = np.cumsum(self._counts)
        self._starts = self._ends - self._counts
        self._readers = {}
        self.damaged = np.array([index for shard in shards for index, _ in shard.damaged], np.int64)

    def _reader(self, shard):
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(self._paths[shard], _READER_OPTIONS)
        if reader.num_records() != self._counts[shard]:  # 0 for a file that cannot be opened or is truncated
            raise ValueError(
                f"{self._paths[shard]}: expected {self._counts[shard]} records. Received: {reader.num_records()}; "
                f"{_AGAIN}"
            )
        self._readers[shard] = reader
        return reader

    def _locate(self, indices):
        """(shards, records in these shards) of images."""
        records = indices - np.searchsorted(self.damaged, indices)
        shards = np.searchsorted(self._ends, records, "right")
        return shards, records - self._starts[shards]

    def name(self, index):
        """Name of an image in messages: its file and record."""
        shard, record = self._locate(index)
        return f"{self._paths[shard]}, record {record}"

    def read(self, indices):
        """Bytes of the PNG files of images, an int64 array [N]; for a damaged record a `DamagedImageError`."""
        shards, records = self._locate(indices)
        files = np.empty(len(indices), object)
        for place, (shard, record) in enumerate(zip(shards.tolist(), records.tolist(), strict=True)):
            reader = self._readers.get(shard) or self._reader(shard)
            try:  # One record at a time, because a call for several takes four times as long for each.
                files[place] = reader.read([record])[0]
            except RuntimeError as error:  # a wrong checksum
                name = self.name(indices[place])
                files[place] = DamagedImageError(f"{name}: expected an undamaged record. Received: {error}; {_AGAIN}")
        return files


def _read(folder, shards, channels, indices):
    records, damaged = PreparedRecords(folder, shards), dict(entry for shard in shards for entry in shard.damaged)
    for index in indices.tolist():
        if index in damaged:
            yield damaged[index], DamagedImageError(f"{damaged[index]}: damaged when the set was prepared")
            continue
        name, file = records.name(index), records.read(np.array([index]))[0]
        try:
            yield name, file if isinstance(file, DamagedImageError) else decode(file, channels, name)
        except DamagedImageError as error:
            yield name, error


def _open(folder, shards, channels, drawn_by):
    return SourceSplit(
        str(folder / MANIFEST),
        sum(shard.num_images + len(shard.damaged) for shard in shards),
        functools.partial(_read, folder, shards, channels),
        (folder / MANIFEST,),
        names=None if shards[0].names is None else [name for shard in shards for name in shard.names],
        fingerprint=sum(int(shard.fingerprint, 16) for shard in shards) if shards[0].fingerprint else None,
        drawn_by=drawn_by,
        open_records=functools.partial(PreparedRecords, folder, shards),
    )


def find_prepared(root, info):
    """Finds the splits of a prepared data set; the data set `folder` accepts one of any name.

    Raises:
        ValueError: the data set or image size differs, the manifest is damaged, or a shard is missing or truncated.
    """
    manifest = read_manifest(root)
    if manifest is None:
        return None
    path = root / MANIFEST
    if info.name not in ("folder", manifest.dataset):
        raise ValueError(f"{path}: dataset: expected {info.name}. Received: {manifest.dataset}")
    received = manifest.image_size, manifest.channels
    if received != (info.stored_size, info.channels):
        raise ValueError(
            f"{path}: expected images of size {info.stored_size} with {info.channels} channels. "
            f"Received: {received[0]} with {received[1]}"
        )
    for shard in manifest.shards():
        file = root / shard.file
        found = file.stat().st_size if file.is_file() else "no such file"
        if found != shard.bytes:
            raise ValueError(f"{file}: expected {shard.bytes} bytes. Received: {found}; {_AGAIN}")
    rest = info.channels, {name: getattr(manifest, name) for name in DRAWN_BY} if manifest.drawn else None
    return {split: functools.partial(_open, root, shards, *rest) for split, shards in manifest.splits.items()}
