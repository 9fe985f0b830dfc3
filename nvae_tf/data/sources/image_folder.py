"""Folders of image files, with or without a folder for each split."""

import functools
import os
import stat

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.names import is_hidden, is_image
from nvae_tf.data.sources.reading import decode_or_error
from nvae_tf.data.sources.selection import select


def list_images(folder):
    """Files in a folder and its subfolders: sorted paths relative to the folder, with "/", of images and of others.

    The others are all other files, hidden folders and empty ones. Links are followed, but no folder is visited twice. A
    folder that cannot be read stands among the images, as one that cannot be read either.
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
        others += [f"{prefix}{name}/" for name in folders if is_hidden(name)] if folders or files else [prefix]
        # Sorted, so that of two links to one folder the same one is followed every time.
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in files:
            (images if is_image(name) else others).append(prefix + name)
    return sorted(images), sorted(others)


def file_split(folder, names, channels, selection=""):
    """The `SourceSplit` of image files; `names` are paths relative to `folder`."""
    read = functools.partial(_read, str(folder), names, channels)
    return SourceSplit(str(folder), len(names), read, (folder,), selection=selection, names=names)


def _read(folder, names, channels, indices):
    for index in indices:
        name = os.path.join(folder, names[index])
        try:
            if name.endswith("/"):
                raise OSError("a folder that cannot be read")
            if not stat.S_ISREG(os.stat(name).st_mode):  # opening a pipe would wait for ever
                raise OSError("a pipe, socket or device")
            with open(name, "rb") as file:
                image = decode_or_error(file.read(), channels, name)
        except OSError as error:
            image = DamagedImageError(f"{name}: expected a file that can be read. Received: {error}")
        yield name, image


def find_image_folder(root, info):
    """Finds the image files in a folder; `splits_by_folder` says how they are divided.

    Subfolders, such as those of classes, are merged; the images are sorted by path.

    Raises:
        ValueError: several folders are named after one split.
    """
    names, others = list_images(root)
    return select(root, names, others, info, file_split) if names else None
