"""Folders of image files, with or without a folder for each split."""

import functools
import os

from nvae_tf.data.decode import SUFFIXES
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import is_hidden, splits_by_folder
from nvae_tf.data.sources.reading import decode_or_error


def _raise(error):
    raise error


def image_names(folder):
    """Image files in a folder and its subfolders: a sorted list of paths relative to the folder, with "/".

    Hidden files are left out. Links are followed, but no folder is visited twice.
    """
    found, visited = [], set()
    for top, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(top)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        # Sorted, so that of two links to one folder the same one is followed every time.
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        prefix = os.path.relpath(top, folder) + "/" if top != os.fspath(folder) else ""
        found += [prefix + name for name in files if name.lower().endswith(SUFFIXES) and not is_hidden(name)]
    return sorted(found)


def file_split(folder, names, channels):
    """The `SourceSplit` of image files; `names` are paths relative to `folder`."""
    read = functools.partial(_read, str(folder), names, channels)
    return SourceSplit(str(folder), len(names), read, (folder,))


def _read(folder, names, channels, indices):
    for index in indices:
        name = os.path.join(folder, names[index])
        with open(name, "rb") as file:
            data = file.read()
        yield name, decode_or_error(data, channels, name)


def find_image_folder(root, info):
    """Finds the image files in a folder.

    Folders in it that are named after splits (train, training, test, testing, validation, valid or val, in any case,
    or with a size as in train_32x32) are the splits. They may also lie in a single folder. Without such folders all
    images are taken. Subfolders, such as those of classes, are merged; the images are sorted by path.

    Raises:
        ValueError: several folders are named after one split.
    """
    names = image_names(root)
    if not names:
        return None
    splits = splits_by_folder(names, info.stored_size, root)
    return {split: functools.partial(file_split, root, part, info.channels) for split, part in splits.items()}
