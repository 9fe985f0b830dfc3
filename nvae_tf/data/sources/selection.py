"""Divides the images of a folder or archive by its folders, and describes what was taken and what was left out."""

import collections
import functools
import posixpath

from nvae_tf.data.sources.names import choose_splits, is_hidden, listed, names_fit, split_of

# Folders of what belongs to an image, which lie beside one of images.
_ANNOTATIONS = {"label", "labels", "mask", "masks", "annotation", "annotations", "gt", "truth", "groundtruth"}
_ANNOTATIONS |= {"segmentation", "segmentations", "segmentationclass", "segmentationobject"}
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "photos", "pictures"}
_MAX_DEPTH = 8
_MAX_EXAMPLES = 3


def _folder(path):
    return path[: path.rfind("/") + 1]


def _word(name):
    """The last word of a name, without suffix: truth in ground_truth."""
    return posixpath.splitext(name)[0].lower().rpartition("_")[2]


def _divide(folders, size, place, above=""):
    """{split or "all": folders}, given the folders that hold images, relative to `above`, without annotations."""
    if above.count("/") > _MAX_DEPTH:
        return {"all": [above + folder for folder in folders]}
    below = collections.defaultdict(list)
    for folder in folders:
        top, _, rest = folder.partition("/")
        below[top].append(rest)
    others = [top for top in below if _word(top) not in _ANNOTATIONS]
    if others and (all(map(split_of, others)) or not _IMAGES.isdisjoint(map(_word, others))):
        below = {top: below[top] for top in others}
    parts = {
        top: _divide(inside, size, place, f"{above}{top}/") if top else {"all": [above]}
        for top, inside in below.items()
    }
    named = set(map(split_of, parts)) - {None}
    if len(named) < 2 and (several := [part for part in parts.values() if len(part) > 1]):
        pairs = [pair for part in several for pair in part.items()]
    elif len(parts) == 1 and not named:
        return parts.popitem()[1]
    else:
        fit = names_fit(set(parts) - {""})  # loose images beside the folders do not matter
        chosen = choose_splits(parts, size, place).items() if fit else [("all", top) for top in parts]
        pairs = [(split, inside) for split, top in chosen for inside in parts[top].values()]
    merged = {split: [] for split, _ in pairs}
    for split, inside in pairs:
        merged[split] += inside
    return merged


def splits_by_folder(names, size, place):
    """Divides images, paths with "/", by the names of their folders: {split: names}, or else {"all": names}.

    The folders of the splits lie side by side, at the top or deeper, or in each of several folders. The name of a
    split counts only where it fits: a single one beside other folders is that of a class. Masks and other annotations
    are left out if they lie beside `images` or beside the splits. For `size` and `place` see `choose_splits`.
    """
    splits = _divide(dict.fromkeys(map(_folder, names)), size, place)
    owner = {folder: split for split, inside in splits.items() for folder in inside}
    parts = {split: [] for split in splits}
    for name in names:
        if (split := owner.get(_folder(name))) is not None:
            parts[split].append(name)
    return parts


def describe(place, splits, images, others):
    """Two lines: what was taken of the images in a place, by folder and number, and all that was left out.

    `splits` is what `splits_by_folder` made of `images`; `others` are the names of all other files.
    """
    owner = {_folder(name): split for split, names in splits.items() for name in names}
    counts, owners = collections.Counter(map(_folder, images)), collections.defaultdict(set)
    above = {folder: [folder[: end + 1] for end, char in enumerate(folder) if char == "/"] for folder in counts}
    for folder, prefixes in above.items():
        for prefix in prefixes:
            owners[prefix].add(owner.get(folder))
    common, loose = posixpath.commonprefix([*counts]), set()
    taken, left = collections.Counter(), collections.Counter()
    for folder, count in counts.items():
        # The topmost folder whose images have all the same fate; one that holds everything would tell nothing.
        group = next((top for top in above[folder] if len(owners[top]) == 1 and not common.startswith(top)), None)
        if folder in owner:
            taken[group or folder or "./"] += count
        elif group:
            left[group] += count
        else:
            loose.add(folder)
    taken, left = (listed([f"{group} ({count})" for group, count in counts.items()]) for counts in (taken, left))
    kinds = by_kind([*others, *(name for name in images if _folder(name) in loose)])
    return f"images taken from {place}: {taken}\nleft out: {', '.join(filter(None, [left, *kinds])) or 'nothing'}"


def by_kind(names):
    """Descriptions of files, with their number and the first names, by suffix; hidden ones and empty folders apart."""
    kinds = collections.defaultdict(dict)
    for name in names:
        parts = name.split("/")
        hidden = next((end for end, part in enumerate(parts, 1) if is_hidden(part)), None)
        suffix = posixpath.splitext(name)[1].lower() or "without a suffix"
        kind = "hidden" if hidden else suffix if parts[-1] else "empty folders"
        kinds[kind]["/".join(parts[:hidden])] = None
    return [f"{kind} ({len(found)}: {listed([*found], _MAX_EXAMPLES)})" for kind, found in sorted(kinds.items())]


def select(place, images, others, info, make_split):
    """{split: function that opens it} of images, or of "all"; `others` are the names of all other files.

    `make_split` takes `place`, names, the number of channels, and the text for `SourceSplit.selection`.
    """
    splits = splits_by_folder(images, info.stored_size, place)
    rest = info.channels, describe(place, splits, images, others)
    return {split: functools.partial(make_split, place, names, *rest) for split, names in splits.items()}
