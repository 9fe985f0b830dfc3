"""Recognises by their names the files and folders that hold images, and the split that each belongs to."""

import os
import re

from nvae_tf.data.decode import SUFFIXES

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
    "hold_out": "test",
    "heldout": "test",
    "held_out": "test",
}
# train, Valid, train_32x32 (downsampled ImageNet), x_train (Keras), val_images (MedMNIST), train2017 (COCO)
_PATTERN = re.compile(
    rf"((x|images)_)?(?P<split>{'|'.join(SPLIT_NAMES)})((19|20)\d\d)?"
    r"(_(?P<height>\d{1,5})x(?P<width>\d{1,5}))?(_(x|images))?(\.(zip|npy|npz))?",
    re.IGNORECASE | re.ASCII,
)
_MADE_BY_SYSTEMS = ("__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "@eadir")
_MAX_LISTED = 20


def is_hidden(name):
    """Whether a file or folder is hidden or created by the system."""
    return name.startswith(".") or name.lower() in _MADE_BY_SYSTEMS


def is_image(path):
    """Whether a file is a visible image, by its path with "/"."""
    return path.lower().endswith(SUFFIXES) and not any(map(is_hidden, path.split("/")))


def listed(names, most=_MAX_LISTED):
    """The first names as printable text, with the number of the others."""
    text = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def contents(folder):
    """Description of the contents of a folder, for messages."""
    names = sorted(path.name + "/" * os.path.isdir(path) for path in folder.iterdir())
    return f"{folder} holds {listed(names) or 'nothing'}"


def visible_files(folder, suffixes):
    """Sorted paths of the visible files in a folder with one of the suffixes, a tuple in lower case."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(suffixes) and not is_hidden(path.name) and os.path.isfile(path)
    )


def find_files(root, folders, patterns):
    """Sorted paths of the files of one split; empty if there are none.

    The files lie in `root` or in one of its subfolders `folders`, in order of preference. Only the first glob pattern
    that matches is used, so that two formats of the same images are never mixed.
    """
    for place in (root, *(root / name for name in folders)):
        for pattern in patterns:
            found = sorted(path for path in place.glob(pattern) if path.is_file())
            if found:
                return found
    return []


def split_of(name):
    """The split that the name of a folder, file or key stands for, or None."""
    match = _PATTERN.fullmatch(name)
    return match and SPLIT_NAMES[match["split"].lower()]


def names_fit(names):
    """Whether names side by side stand for splits: for several, or all of them for one, which else may be a class."""
    splits = set(map(split_of, names))
    return len(splits - {None}) > len(splits & {None})


def choose_splits(names, size, place):
    """{split: name} of the folders, files or keys that are named after splits; two names for one split are an error.

    With a `size` of 32, train_32x32 is preferred to train_64x64. `place` is where the names are, for the message.
    """
    found = {}
    for name in sorted(filter(split_of, names)):
        stored_size = _PATTERN.fullmatch(name).group("height", "width")
        rank = 2 if stored_size == (str(size), str(size)) else stored_size == (None, None)
        found.setdefault(split_of(name), {}).setdefault(rank, []).append(name)
    best = {split: ranked[max(ranked)] for split, ranked in found.items()}
    for split, several in best.items():
        if len(several) > 1:
            raise ValueError(f"{place}: expected one name for the split {split!r}. Received: {', '.join(several)}")
    return {split: name for split, [name] in best.items()}
