"""Folders of image files, with or without a folder for each split."""

import functools
import os
import stat

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import is_hidden, is_image
from nvae_tf.data.sources.reading import decode_or_error
from nvae_tf.data.sources.selection import describe, splits_by_folder


def list_images(folder):
    """Files in a folder and its subfolders: sorted paths relative to the folder, with "/", of images and of others.

    The others are files that are not images, hidden files and folders, and empty folders. Links are followed, but no
    folder is visited twice. A folder that cannot be read stands among the images, as one that cannot be read either.
    """
    images, others, visited = [], [], set()

    def note(error):
        if error.filename == os.fspath(folder):
            raise error
        images.append(os.path.relpath(error.filename, folder) + "/")

    for top, folders, files in os.walk(folder, onerror=note, followlinks=True):
        status = os.stat(top)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        prefix = os.path.relpath(top, folder) + "/" if top != os.fspath(folder) else ""
        others += [prefix] * (not folders and not files) + [f"{prefix}{name}/" for name in folders if is_hidden(name)]
        # Sorted, so that of two links to one folder the same one is followed every time.
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in files:
            (images if is_image(name) else others).append(prefix + name)
    return sorted(images), sorted(others)


def file_split(folder, names, channels, selection=""):
    """The `SourceSplit` of image files; `names` are paths relative to `folder`."""
    read = functools.partial(_read, str(folder), names, channels)
    return SourceSplit(str(folder), len(names), read, (folder,), selection=selection)


def _open(path, flags):
    return os.open(path, flags | os.O_NONBLOCK)  # does not wait for the other end of a named pipe


def _read(folder, names, channels, indices):
    for index in indices:
        name = os.path.join(folder, names[index])
        try:
            with open(name, "rb", opener=_open) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError("a pipe or device")
                data = file.read()
        except OSError as error:
            yield name, DamagedImageError(f"{name}: expected a file that can be read. Received: {error}")
        else:
            yield name, decode_or_error(data, channels, name)


def find_image_folder(root, info):
    """Finds the image files in a folder; `splits_by_folder` says how they are divided.

    Subfolders, such as those of classes, are merged; the images are sorted by path.

    Raises:
        ValueError: several folders are named after one split.
    """
    names, others = list_images(root)
    if not names:
        return None
    splits = splits_by_folder(names, info.stored_size, root)
    selection = describe(root, splits, names, others)
    return {
        split: functools.partial(file_split, root, part, info.channels, selection) for split, part in splits.items()
    }
