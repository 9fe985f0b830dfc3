"""CelebA as its authors distribute it: aligned images, and a list that assigns each image to a split."""

import dataclasses
import functools
import os

from nvae_tf.data.sources.image_folder import file_split
from nvae_tf.data.sources.zip_file import list_zip, zip_split

_PARTS = ("train", "validation", "test")
_PLACES = ("", "celeba", "CelebA")
_LISTS = [f"{folder}list_eval_partition.{suffix}" for folder in ("", "Eval/", "Anno/") for suffix in ("txt", "csv")]
# Some programs unpack the archive into a folder with its name. The last place is the folder of the list.
_IMAGES = [
    f"{folder}{name}"
    for folder in ("", "Img/")
    for name in ("img_align_celeba/img_align_celeba", "img_align_celeba", "img_align_celeba.zip")
] + [""]


def _read_partition(path):
    """{split: file names in the order of the list}, without empty splits."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text. Received: {error}") from error
    parts = {part: [] for part in _PARTS}
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or words == ["image_id", "partition"]:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise ValueError(f"{path}, line {number}: expected a file name and 0, 1 or 2. Received: {line[:80]!r}")
        parts[_PARTS[int(words[1])]].append(words[0])
    return {part: names for part, names in parts.items() if names}


def _find_images(place, first):
    """The folder or zip file of the aligned images: the first one that holds the first image, or else any of them."""
    found = [place / name for name in _IMAGES if (place / name).exists()]
    for path in found:
        if path.suffix == ".zip" or (path / first).is_file():
            return path
    return found[0] if found[0] != place else None


def _open(path, list_path, part, names, channels):
    entries = os.listdir(path) if path.is_dir() else list_zip(path)[0]
    present = {entry.rpartition("/")[2]: entry for entry in entries}
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(
            f"{path}: expected all {len(names)} images of {part} that {list_path} names. "
            f"Received: {len(missing)} fewer, the first {missing[0]}"
        )
    make_split, folder = (file_split, path) if path.is_dir() else (zip_split, path.parent)
    split = make_split(folder, [present[name] for name in names], channels)
    return dataclasses.replace(split, paths=(path, list_path))


def find_celeba_tree(root, info):
    """Finds CelebA's aligned images with the published split.

    The folder holds img_align_celeba/ or img_align_celeba.zip, and list_eval_partition.txt or .csv; or, as
    distributed, the images are in Img/ and the list in Eval/. Both may also be in a folder celeba/.

    Raises:
        ValueError: the list is damaged. When a split is opened: images are missing.
    """
    for place in (root / name for name in _PLACES):
        list_path = next((place / name for name in _LISTS if (place / name).is_file()), None)
        parts = _read_partition(list_path) if list_path else {}
        path = _find_images(place, next(iter(parts.values()))[0]) if parts else None
        if path is not None:
            return {
                part: functools.partial(_open, path, list_path, part, names, info.channels)
                for part, names in parts.items()
            }
    return None
