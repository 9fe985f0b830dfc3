"""Zip files of images, read where they are: nothing is ever extracted."""

import bz2
import dataclasses
import os
import zipfile
import zlib

import numpy as np
from absl import logging

from nvae_tf.data.decode import DamagedImageError, decode
from nvae_tf.data.sources.image_folder import MAX_FILE_BYTES, is_image_name
from nvae_tf.data.sources.split_names import choose_splits, is_hidden

_LOCAL_HEADER = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 1
_MAX_OFFSET = 2**62
_INFLATE = {zipfile.ZIP_DEFLATED: lambda: zlib.decompressobj(-zlib.MAX_WBITS), zipfile.ZIP_BZIP2: bz2.BZ2Decompressor}


def _is_safe(name):
    return not (name.startswith("/") or name[1:2] == ":" or "\\" in name or ".." in name.split("/"))


def _is_visible(name):
    return not any(map(is_hidden, name.split("/")))


def _fields(info):
    # Sizes of 64 bits have no place in int64 and are too large in any case.
    fields = (info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type, info.flag_bits)
    return [min(field, _MAX_OFFSET) for field in fields]


@dataclasses.dataclass(frozen=True, slots=True)
class Entries:
    """The images in a zip file.

    Attributes:
        names: sorted list of str.
        fields: int64, [N, 6]: offset, bytes as stored, bytes, CRC-32, method and flags of each.
    """

    names: list
    fields: np.ndarray

    def subset(self, indices):
        return Entries([self.names[index] for index in indices], self.fields[np.asarray(indices, np.int64)])


def read_entries(path):
    """Lists the images in a zip file.

    Args:
        path: `pathlib.Path`.

    Returns:
        `Entries`, without hidden files; names that lead out of the archive are left out with a warning.

    Raises:
        ValueError: the list of entries is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Of entries of one name the last counts, as for every program that extracts them.
            found = {info.filename: info for info in archive.infolist() if is_image_name(info.filename)}
    except OSError:
        raise
    except Exception as error:  # damaged lists make zipfile raise more than BadZipFile
        raise ValueError(f"{path}: expected a zip file. Received: {path.stat().st_size} bytes ({error})") from error
    unsafe = [name for name in found if not _is_safe(name)]
    if unsafe:
        message = "%s: left out %d entries whose names are no paths inside the archive, such as %r"
        logging.warning(message, path, len(unsafe), unsafe[0])
    names = sorted(name for name in found if _is_safe(name) and _is_visible(name))
    fields = [_fields(found[name]) for name in names]
    return Entries(names, np.array(fields, np.int64).reshape(-1, 6))


def _inflate(data, method, size):
    try:
        # One byte more than claimed shows that the claim is wrong.
        return _INFLATE[method]().decompress(data, size + 1)
    except (zlib.error, OSError) as error:  # OSError is what bz2 says of damaged data
        raise ValueError(f"expected compressed data. Received: {len(data)} bytes, damaged ({error})") from error


class ZipStore:
    """Images in a zip file.

    Entries are read by their place in the file, not by `zipfile`, so that other processes need not list them again, and
    never more than `MAX_FILE_BYTES`, whatever the archive claims.

    Args:
        path: `pathlib.Path`.
        entries: `Entries`.
        channels: of the data set.
    """

    def __init__(self, path, entries, channels):
        self.path, self.entries, self.channels = path, entries, channels
        self.source = str(path)
        self._file = None

    def __getstate__(self):
        return {**self.__dict__, "_file": None}

    def __len__(self):
        return len(self.entries.names)

    def name(self, index):
        return f"{self.source}, entry {self.entries.names[index]}"

    def read(self, index):
        name = self.name(index)
        try:
            data = self._read_bytes(*self.entries.fields[index].tolist())
        except ValueError as error:
            raise DamagedImageError(f"{name}: {error}") from error
        return decode(data, self.channels, name)

    def _pread(self, size, offset):
        # Positional reads leave no state that threads could disturb. Two threads may both open the file; one of the two
        # is closed when it is done.
        file = self._file
        if file is None:
            file = self._file = open(self.path, "rb", buffering=0)
        if not 0 <= offset < _MAX_OFFSET:
            return b""
        return os.pread(file.fileno(), size, offset)

    def _read_bytes(self, offset, stored_size, size, crc, method, flags):
        if flags & _ENCRYPTED:
            raise ValueError("expected an entry without encryption. Received: an encrypted one")
        if method != zipfile.ZIP_STORED and method not in _INFLATE:
            raise ValueError(f"expected an entry stored, deflated or in bzip2. Received: compression method {method}")
        if max(size, stored_size) > MAX_FILE_BYTES:
            raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes. Received: {max(size, stored_size)}")
        header = self._pread(_LOCAL_HEADER_BYTES, offset)
        if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_HEADER):
            raise ValueError(f"expected the header of an entry at byte {offset}. Received: {header[:4]!r}")
        # The header ends with the lengths of two fields between itself and the data.
        skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        data = self._pread(stored_size, offset + _LOCAL_HEADER_BYTES + skipped)
        if method != zipfile.ZIP_STORED:
            data = _inflate(data, method, size)
        if len(data) != size or zlib.crc32(data) != crc:
            received = f"{len(data)} of {zlib.crc32(data):#010x}"
            raise ValueError(f"expected {size} bytes of CRC-32 {crc:#010x}. Received: {received}")
        return data


def _inner_splits(names, size, path):
    """{split: indices} by the folders at the top of an archive, or below its only one; {} without any."""
    parts = [name.split("/") for name in names]
    for depth in (0, 1):
        tops = [folders[depth] if len(folders) > depth + 1 else None for folders in parts]
        splits = choose_splits({top for top in tops if top is not None}, size, path)
        if splits:
            places = {folder: split for split, folder in splits.items()}
            indices = {split: [] for split in splits}
            for index, top in enumerate(tops):
                if top in places:
                    indices[places[top]].append(index)
            return indices
        if len(set(tops)) > 1:
            break
    return {}


def find_zip(root, info):
    """The images in the zip files of a folder.

    Either one file for each split, named after it (train.zip, train_32x32.zip, valid.zip), or one file, whose folders
    are taken as those of `find_image_folder`. Files without images do not count.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        As of any source.

    Raises:
        ValueError: a damaged file, several for one split, or several that no split is named after.
    """
    with os.scandir(root) as files:
        names = [file.name for file in files if file.name.lower().endswith(".zip") and not is_hidden(file.name)]
    paths = {name: root / name for name in sorted(names) if (root / name).is_file()}
    found = {name: entries for name, path in paths.items() if (entries := read_entries(path)).names}
    if not found:
        return None
    by_name = choose_splits(found, info.stored_size, root, word=lambda name: os.path.splitext(name)[0])
    if len(found) > 1 and not by_name:
        received = ", ".join(found)
        raise ValueError(f"{root}: expected one .zip file of images, or one for each split. Received: {received}")
    if len(found) > 1:
        parts = {split: (name, found[name]) for split, name in by_name.items()}
    else:
        [(name, entries)] = found.items()
        inner = _inner_splits(entries.names, info.stored_size, paths[name])
        parts = {split: (name, entries.subset(indices)) for split, indices in inner.items()}
        parts = parts or {next(iter(by_name), "all"): (name, entries)}
    return {split: _giving(ZipStore(paths[name], entries, info.channels)) for split, (name, entries) in parts.items()}


def _giving(store):
    return lambda: store
