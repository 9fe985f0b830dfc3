"""Zip files of images, read in place: nothing is ever extracted."""

import functools
import struct
import zipfile

import numpy as np

from nvae_tf.data.decode import SUFFIXES, DamagedImageError
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import choose_splits, is_hidden, splits_by_folder, visible_files
from nvae_tf.data.sources.reading import decode_or_error, named_damage

_LENGTHS = struct.Struct("<26xHH")  # the header before an entry's data ends with a name and a field of these lengths


def zip_entries(path):
    """The images in a zip file, without hidden files: {name: `zipfile.ZipInfo`}, sorted by name."""
    with named_damage(path, "a zip file"), zipfile.ZipFile(path) as archive:
        # The last of several entries of one name counts, as in every program that extracts them.
        found = {entry.filename: entry for entry in archive.infolist() if entry.filename.lower().endswith(SUFFIXES)}
    return {name: found[name] for name in sorted(found) if not any(map(is_hidden, name.split("/")))}


def zip_split(path, entries, channels):
    """The `SourceSplit` of a list of `zipfile.ZipInfo` of a zip file."""
    names = [entry.filename for entry in entries]
    # A compact array instead of the entries, because it is sent to other processes; an archive may hold a million.
    fields = [(e.header_offset, e.compress_size, e.file_size, e.CRC, e.compress_type) for e in entries]
    read = functools.partial(_read, str(path), names, np.array(fields, np.int64), channels)
    return SourceSplit(str(path), len(names), read, (path,))


def _read(path, names, fields, channels, indices):
    with open(path, "rb") as file:
        for index in indices:
            name = f"{path}, entry {names[index]}"
            try:
                with named_damage(name, "a sound entry"):
                    data = _read_entry(file, *fields[index].tolist())
            except ValueError as error:
                yield name, DamagedImageError(str(error))
            else:
                yield name, decode_or_error(data, channels, name)


def _read_entry(file, offset, compress_size, file_size, crc, compress_type):
    # Not by `ZipFile`, which lists a million entries anew in every process.
    entry = zipfile.ZipInfo()
    entry.compress_size, entry.file_size, entry.CRC, entry.compress_type = compress_size, file_size, crc, compress_type
    file.seek(offset)
    name_length, extra_length = _LENGTHS.unpack(file.read(_LENGTHS.size))
    file.seek(name_length + extra_length, 1)
    with zipfile.ZipExtFile(file, "r", entry) as data:
        return data.read()


def find_zip(root, info):
    """The images in the zip files of a folder.

    There is either one file for each split, named after it (train.zip, train_32x32.zip, valid.zip), or one file, whose
    folders count as in `find_image_folder`. Files without images do not count.

    Raises:
        ValueError: a damaged file, several files for one split, or several files none of which is named after a split.
    """
    found = {path: entries for path in visible_files(root, (".zip",)) if (entries := zip_entries(path))}
    if not found:
        return None
    paths = {path.name: path for path in found}
    by_name = choose_splits(paths, info.stored_size, root, are_files=True)
    if len(found) > 1 and not by_name:
        received = ", ".join(paths)
        raise ValueError(f"{root}: expected one .zip file of images, or one for each split. Received: {received}")
    if by_name:
        parts = {split: (paths[name], found[paths[name]]) for split, name in by_name.items()}
    else:
        [(path, entries)] = found.items()
        inner = splits_by_folder(list(entries), info.stored_size, path)
        parts = {split: (path, {name: entries[name] for name in names}) for split, names in inner.items()}
    return {
        split: functools.partial(zip_split, path, list(entries.values()), info.channels)
        for split, (path, entries) in parts.items()
    }
