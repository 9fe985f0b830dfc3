"""Zip files of images, read in place: nothing is ever extracted."""

import functools
import os
import zipfile

from nvae_tf.data.decode import SUFFIXES, DamagedImageError
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import choose_splits, is_hidden, splits_by_folder, visible_files
from nvae_tf.data.sources.reading import decode_or_error, named_damage


def zip_names(path):
    """Sorted names of the images in a zip file, without hidden files."""
    with named_damage(path, "a zip file"), zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if name.lower().endswith(SUFFIXES)}
    return sorted(name for name in names if not any(map(is_hidden, name.split("/"))))


def zip_split(path, names, channels):
    """The `SourceSplit` of the images with these names in a zip file."""
    return SourceSplit(str(path), len(names), functools.partial(_read, str(path), names, channels), (path,))


# Kept open, because a process reads many parts, and listing the million entries of an archive takes seconds.
@functools.lru_cache(maxsize=1)
def _open_archive(path, modified):
    del modified
    return zipfile.ZipFile(path)


def _read(path, names, channels, indices):
    archive = _open_archive(path, os.stat(path).st_mtime_ns)
    for index in indices:
        name = f"{path}, entry {names[index]}"
        try:
            with named_damage(name, "a sound entry"):
                data = archive.read(names[index])
        except ValueError as error:
            yield name, DamagedImageError(str(error))
        else:
            yield name, decode_or_error(data, channels, name)


def find_zip(root, info):
    """Finds the images in the zip files of a folder.

    There is either one file for each split, named after it (train.zip, train_32x32.zip, valid.zip), or one file, whose
    folders are treated as in `find_image_folder`. Files without images are ignored.

    Raises:
        ValueError: a file is damaged, several are named after one split, or there are several and none is named so.
    """
    found = {path: names for path in visible_files(root, (".zip",)) if (names := zip_names(path))}
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
        [(path, names)] = found.items()
        inner = splits_by_folder(names, info.stored_size, path)
        parts = {split: (path, part) for split, part in inner.items()}
    return {split: functools.partial(zip_split, path, names, info.channels) for split, (path, names) in parts.items()}
