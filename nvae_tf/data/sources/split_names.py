"""By which names folders, files and keys say what split they hold."""

import re

_WORDS = {
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
    rf"(?:(?:x|images)_)?({'|'.join(_WORDS)})(?:_(\d{{1,5}})x(\d{{1,5}}))?(?:_(?:x|images))?", re.IGNORECASE | re.ASCII
)


def is_hidden(name):
    """Whether a file or folder is none of the user's own."""
    return name.startswith(".") or name == "__MACOSX"


def choose_splits(names, size, place, word=str, only_if=None):
    """What holds which split.

    Args:
        names: of folders, files or keys; those that name no split are passed over.
        size: of the data set's images, or None: train_32x32 is preferred to train_64x64 where it is 32.
        place: what holds the names, for the message.
        word: function from a name to the part that may name a split. Default the whole.
        only_if: function that says whether there is anything in what has a split's name, or None. Default None.

    Returns:
        {split: name} with the splits "train", "validation" and "test".

    Raises:
        ValueError: several names for one split.
    """
    candidates = {}
    for name in sorted(names):
        match = _PATTERN.fullmatch(word(name))
        if match and (only_if is None or only_if(name)):
            sides = None if match[2] is None else (int(match[2]), int(match[3]))
            candidates.setdefault(_WORDS[match[1].lower()], {})[name] = sides
    return {split: _choose(sized, size, split, place) for split, sized in candidates.items()}


def _choose(sized, size, split, place):
    for preferred in ((size, size), None):
        names = [name for name, sides in sized.items() if sides == preferred]
        if names:
            break
    names = names or list(sized)
    if len(names) > 1:
        raise ValueError(f"{place}: expected one name for the split {split!r}. Received: {', '.join(names)}")
    return names[0]
