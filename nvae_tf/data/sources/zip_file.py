"""Zip files of images, read in place: nothing is ever extracted."""

import functools
import os
import zipfile

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import is_image, listed, visible_files
from nvae_tf.data.sources.reading import decode_or_error, named_damage
from nvae_tf.data.sources.selection import select


def list_zip(path):
    """Sorted names ARCHIVE/ENTRY of the images in a zip file, and of its other files."""
    with named_damage(path, "a zip file"), zipfile.ZipFile(path) as archive:
        names = sorted(f"{path.name}/{name}" for name in set(archive.namelist()) if not name.endswith("/"))
    return [name for name in names if is_image(name)], [name for name in names if not is_image(name)]


def _archives(names):
    return list(dict.fromkeys(name.partition("/")[0] for name in names))


def zip_split(folder, names, channels, selection=""):
    """The `SourceSplit` of images in the zip files of a folder; their names are ARCHIVE/ENTRY."""
    paths = tuple(folder / archive for archive in _archives(names))
    read = functools.partial(_read, str(folder), names, channels)
    source = ", ".join(map(str, paths))
    return SourceSplit(source, len(names), read, paths, selection=selection, names=list(map(_in_folder, names)))


def _in_folder(name):
    """Name of an image in the folder that was archived, which archives often hold under their own name."""
    archive, _, entry = name.partition("/")
    return entry.removeprefix(f"{os.path.splitext(archive)[0]}/")


# Kept open, because a process reads many parts, and listing the million entries of an archive takes seconds.
@functools.lru_cache(maxsize=1)
def _open_archive(path, modified):
    del modified
    return zipfile.ZipFile(path)


def _read(folder, names, channels, indices):
    for index in indices:
        file, _, entry = names[index].partition("/")
        path = os.path.join(folder, file)
        name = f"{path}, entry {entry}"
        archive = _open_archive(path, os.stat(path).st_mtime_ns)
        try:
            with named_damage(name, "a sound entry"):
                image = decode_or_error(archive.read(entry), channels, name)
        except ValueError as error:
            image = DamagedImageError(str(error))
        yield name, image


def find_zip(root, info):
    """Finds the images in the zip files of a folder.

    There is either one file for each split, named after it (train.zip, train_32x32.zip, valid.zip), or one file, whose
    folders are treated as in `find_image_folder`. Files without images are ignored.

    Raises:
        ValueError: a file is damaged, several are named after one split, or there are several with other names.
    """
    listings = [list_zip(path) for path in visible_files(root, (".zip",))]
    images, others = ([name for listing in listings for name in listing[part]] for part in (0, 1))
    # As if each archive were a folder.
    found = select(root, images, others, info, zip_split) if images else None
    if found and "all" in found and len(archives := _archives(images)) > 1:
        received = listed(archives)
        raise ValueError(f"{root}: expected one .zip file of images, or one for each split. Received: {received}")
    return found
