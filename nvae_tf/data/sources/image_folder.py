"""Folders of image files, with a folder for each split or without."""

import functools
import os

from nvae_tf.data.decode import SUFFIXES, DamagedImageError, decode
from nvae_tf.data.sources.split_names import choose_splits, is_hidden

# No file of one image is larger; more is refused before memory is taken for it.
MAX_FILE_BYTES = 256 * 2**20


def is_image_name(name):
    """Whether a file's name ends as those of images do."""
    return name.lower().endswith(SUFFIXES)


def image_names(folder, deep=True):
    """Image files in a folder and the folders below it.

    Hidden ones are left out. Links are followed, but no folder is visited twice.

    Args:
        folder: `pathlib.Path`.
        deep: look into the folders below. Default True.

    Yields:
        Paths relative to the folder, with "/", in no order.
    """
    visited, waiting = set(), [""]
    while waiting:
        prefix = waiting.pop()
        path = os.path.join(folder, prefix)
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        folders = []
        with os.scandir(path) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    if deep:
                        folders.append(f"{prefix}{entry.name}/")
                # A link to nothing counts: reading it says so.
                elif is_image_name(entry.name) and (entry.is_file() or entry.is_symlink()):
                    yield prefix + entry.name
        # Sorted, so that it is the same one of two links to a folder that counts.
        waiting += sorted(folders, reverse=True)


def _holds_images(folder, deep=True):
    return next(image_names(folder, deep), None) is not None


class ImageFolderStore:
    """Image files of a folder.

    Args:
        folder: `pathlib.Path`.
        names: list of their paths relative to it, with "/".
        channels: of the data set.
    """

    def __init__(self, folder, names, channels):
        self.folder, self.names, self.channels = folder, names, channels
        self.source = str(folder)

    def __len__(self):
        return len(self.names)

    def name(self, index):
        return os.path.join(self.source, self.names[index])

    def read(self, index):
        name = self.name(index)
        with open(name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise DamagedImageError(f"{name}: expected at most {MAX_FILE_BYTES} bytes. Received: {size}")
            return decode(file.read(), self.channels, name)


def _open(folder, channels):
    return ImageFolderStore(folder, sorted(image_names(folder)), channels)


def _subfolders(folder):
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir()]


def _split_folders(place, names, size):
    candidates = choose_splits(names, size, place, only_if=lambda name: _holds_images(place / name))
    return {split: place / name for split, name in candidates.items()}


def find_image_folder(root, info):
    """The image files in a folder.

    Folders directly in it that are named after splits (train, training, test, testing, validation, valid or val, in any
    case, or with a size as in train_32x32) are the splits; they may also lie in the only folder there is. Without
    any, all images are taken. Sub-folders, as of classes, are joined. The order is that of the paths.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        As of any source.

    Raises:
        ValueError: several folders for one split.
    """
    names = _subfolders(root)
    splits = _split_folders(root, names, info.stored_size)
    if not splits and len(names) == 1 and not _holds_images(root, deep=False):
        splits = _split_folders(root / names[0], _subfolders(root / names[0]), info.stored_size)
    if splits:
        return {split: functools.partial(_open, folder, info.channels) for split, folder in splits.items()}
    return {"all": functools.partial(_open, root, info.channels)} if _holds_images(root) else None
