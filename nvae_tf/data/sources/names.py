"""Recognises by their names the files and folders that hold images, and the split that each belongs to."""

import re

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
# train, Valid, train_32x32 (downsampled ImageNet), x_train (Keras), val_images (MedMNIST)
_PATTERN = re.compile(
    rf"((x|images)_)?(?P<split>{'|'.join(SPLIT_NAMES)})(_(?P<height>\d{{1,5}})x(?P<width>\d{{1,5}}))?(_(x|images))?",
    re.IGNORECASE | re.ASCII,
)
_MAX_LISTED = 20


def is_hidden(name):
    """Whether a file or folder is hidden or created by the system."""
    return name.startswith(".") or name == "__MACOSX"


def contents(folder):
    """Description of the contents of a folder, for messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{folder} holds {', '.join(names[:_MAX_LISTED]) or 'nothing'}{more}"


def visible_files(folder, suffixes):
    """Sorted paths of the visible files in a folder with one of the suffixes, a tuple in lower case."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(suffixes) and not is_hidden(path.name) and path.is_file()
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


def choose_splits(names, size, place, are_files=False):
    """{split: name} of the folders, files or keys that are named after splits; two names for one split are an error.

    With a `size` of 32, train_32x32 is preferred to train_64x64. `place` is where the names are, for the message; with
    `are_files` the names have a suffix, which is ignored.
    """
    sizes = {}
    for name in sorted(names):
        match = _PATTERN.fullmatch(name.rpartition(".")[0] if are_files else name)
        if match:
            stored_size = match["height"] and (int(match["height"]), int(match["width"]))
            sizes.setdefault(SPLIT_NAMES[match["split"].lower()], {})[name] = stored_size
    chosen = {}
    for split, size_of in sizes.items():
        for preferred in ((size, size), None):
            found = [name for name, stored_size in size_of.items() if stored_size == preferred]
            if found:
                break
        found = found or list(size_of)
        if len(found) > 1:
            raise ValueError(f"{place}: expected one name for the split {split!r}. Received: {', '.join(found)}")
        chosen[split] = found[0]
    return chosen


def splits_by_folder(names, size, place):
    """Files by split, {split: names}, from their top folders or those in a single top folder; or {"all": names}.

    `names` are paths with "/"; see `choose_splits` for the other arguments.
    """
    for depth in (0, 1):
        tops = [parts[depth] if len(parts) > depth + 1 else "" for parts in (name.split("/") for name in names)]
        splits = choose_splits(set(tops), size, place)
        if splits:
            return {
                split: [name for name, top in zip(names, tops, strict=True) if top == folder]
                for split, folder in splits.items()
            }
        if len(set(tops)) > 1:
            break
    return {"all": names}
