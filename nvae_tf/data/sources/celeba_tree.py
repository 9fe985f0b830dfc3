"""CelebA as its authors hand it out: aligned images and a list that says which split each belongs to."""

import os
import re

from nvae_tf.data.sources.image_folder import ImageFolderStore
from nvae_tf.data.sources.zip_file import ZipStore, read_entries

_PARTS = ("train", "validation", "test")
_PLACES = ("", "celeba", "CelebA")
_LISTS = ("list_eval_partition.txt", "list_eval_partition.csv")
_LIST_FOLDERS = ("", "Eval", "Anno")
# Some programs unpack the archive into a folder of its name. Last, the list may lie beside the images.
_IMAGES = tuple(
    f"{folder}{name}"
    for folder in ("", "Img/")
    for name in ("img_align_celeba/img_align_celeba", "img_align_celeba", "img_align_celeba.zip")
) + ("",)
_CSV_HEADER = "image_id,partition"
_LINE = re.compile(r"([^\s,/\\.][^\s,/\\]*)(?:[ \t]+|,)(\d{1,9})", re.ASCII)


def read_partition(path):
    """Reads the list of splits.

    Args:
        path: `pathlib.Path` of list_eval_partition.txt or .csv: a file name and 0, 1 or 2 on each line.

    Returns:
        {"train": names, "validation": names, "test": names}, lists in the order of the file; those without names are
        left out.

    Raises:
        ValueError: a line is malformed, names an unknown split or an image for the second time.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text. Received: {error}") from error
    parts = {part: [] for part in _PARTS}
    seen = set()
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or (number == 1 and line.replace(" ", "") == _CSV_HEADER):
            continue
        match = _LINE.fullmatch(line)
        if not match or int(match[2]) >= len(_PARTS):
            raise ValueError(f"{path}, line {number}: expected a file name and 0, 1 or 2. Received: {line[:80]!r}")
        if match[1] in seen:
            raise ValueError(f"{path}, line {number}: expected every image once. Received: {match[1]} again")
        seen.add(match[1])
        parts[_PARTS[int(match[2])]].append(match[1])
    return {part: names for part, names in parts.items() if names}


def _find(places, names):
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def _find_images(place, first):
    """The folder or zip file with the aligned images; where no folder has the first of them, any that is there."""
    found = [place / name for name in _IMAGES if (place / name).exists()]
    for path in found:
        if path.suffix == ".zip" or (path / first).is_file():
            return path
    return found[0] if found[0] != place else None


def _check_complete(names, present, part, path, list_path):
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(
            f"{path}: expected all {len(names)} images of {part} that {list_path} names. "
            f"Received: {len(missing)} fewer, the first {missing[0]}"
        )


def _open(path, list_path, part, names, channels):
    if path.is_dir():
        _check_complete(names, set(os.listdir(path)), part, path, list_path)
        return ImageFolderStore(path, names, channels)
    entries = read_entries(path)
    places = {name.rpartition("/")[2]: index for index, name in enumerate(entries.names)}
    _check_complete(names, places, part, path, list_path)
    return ZipStore(path, entries.subset([places[name] for name in names]), channels)


def find_celeba_tree(root, info):
    """CelebA's aligned images with the published split.

    The folder holds img_align_celeba/ or img_align_celeba.zip, and list_eval_partition.txt or .csv; or, as handed out,
    the former in Img/ and the latter in Eval/. Both may also be in its folder celeba/.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        As of any source; None without a list.

    Raises:
        ValueError: a damaged list, or (when a split is opened) images that are missing.
    """
    for place in (root / name for name in _PLACES):
        list_path = _find([place / name for name in _LIST_FOLDERS], _LISTS)
        if list_path is None:
            continue
        parts = read_partition(list_path)
        path = _find_images(place, next(iter(parts.values()))[0]) if parts else None
        if path is not None:
            return {part: _opener(path, list_path, part, names, info.channels) for part, names in parts.items()}
    return None


def _opener(*arguments):
    return lambda: _open(*arguments)
