"""From a data set's name and a folder to the images of a split, whatever format they are found in."""

import pathlib

import numpy as np

from nvae_tf.data.datasets import DATASETS
from nvae_tf.data.sources import SOURCES
from nvae_tf.data.sources.names import contents
from nvae_tf.data.stores import FittedStore, SubsetStore, is_encoded

SPLITS = ("train", "validation", "test")


def find_splits(info, data_dir):
    """The splits in a folder, by the first of the data set's sources that finds any.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of the data set's files, or None for a set that needs none.

    Returns:
        (name of the source, {split: function of nothing that gives a store}).

    Raises:
        ValueError: no `data_dir`, or damaged files.
        FileNotFoundError: no such folder, or nothing in it that the data set can be read from.
    """
    sources = {name: SOURCES[name] for name in ("prepared", *info.sources)}
    needs_files = "digits" not in sources
    looked_for = "".join(f"\n  {name}: {source.looked_for}" for name, source in sources.items())
    if needs_files and not data_dir:
        raise ValueError(
            f"data_dir: expected a folder with {info.name} in one of these forms. Received: none{looked_for}"
        )
    root = pathlib.Path(data_dir) if data_dir else None
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"data_dir: expected an existing folder. Received: {str(root)!r}")
    for name, source in sources.items():
        splits = source.find(root, info) if root is not None or name == "digits" else None
        if splits:
            return name, splits
    _refuse_the_other_imagenet(info, root)
    raise FileNotFoundError(
        f"data_dir: expected {info.name} in one of these forms. Received: {contents(root)}{looked_for}"
    )


def _refuse_the_other_imagenet(info, root):
    """ValueError where the folder holds the re-release of 2021 and the original was asked for."""
    other = DATASETS.get(f"{info.name}_2021")
    if other is not None and SOURCES["pickled_batches"].find(root, other):
        raise ValueError(f"data_dir: {root} holds {other.name}, expected {info.name}. {other.note}")


def seeded_split(num_images, num_test, seed):
    """Sorted indices of the training images and of the held-out ones.

    Args:
        num_images: N.
        num_test: a number of images, or a fraction of N (at least one image).
        seed: of the draw, at least 0.

    Returns:
        {"train": int64 indices, "test": int64 indices}.

    Raises:
        ValueError: nothing would be left to train on.
    """
    count = num_test if isinstance(num_test, int) else max(round(num_test * num_images), 1)
    if not 0 < count < num_images:
        raise ValueError(
            f"expected more than {max(count, 1)} images, of which {count} are held out. Received: {num_images}"
        )
    # RandomState's stream is frozen by NumPy's policy, so that the split never changes.
    order = np.random.RandomState(seed).permutation(num_images)
    return {"train": np.sort(order[count:]), "test": np.sort(order[:count])}


def open_splits(info, data_dir, split_seed=0, test_fraction=0.1):
    """The splits of a data set; one is made where the source has none.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of its files, or None.
        split_seed: of the split that is made. Default 0.
        test_fraction: of the images, held out by it where the data set has no number of its own. Default 0.1.

    Returns:
        (name of the source, {split: function of nothing that gives a store}), always with "train" and "test"; images
        there are of the size they are stored in. Where the source calls its only held-out images validation, as
        ImageNet and LSUN do, they are "test".

    Raises:
        ValueError, FileNotFoundError: as of `find_splits`, or no training images.
    """
    source, found = find_splits(info, data_dir)
    if "test" not in found and "validation" in found:
        found = {**found, "test": found["validation"]}
        del found["validation"]
    if "all" not in found and "test" not in found and "train" in found:
        found = {"all": found["train"]}
    if "all" in found:
        return source, _divided(info, found["all"], split_seed, test_fraction)
    if "train" not in found:
        raise ValueError(f"data_dir: expected training images beside {sorted(found)}. Received: none in {data_dir}")
    return source, found


def _divided(info, make, seed, fraction):
    whole = make()

    def part(split):
        # A part of a published set cannot spare what the whole can.
        num_test = info.num_test if info.num_test and info.num_test < len(whole) // 2 else fraction
        try:
            return SubsetStore(whole, seeded_split(len(whole), num_test, seed)[split])
        except ValueError as error:
            raise ValueError(f"{whole.source}: {error}") from error

    return {"train": lambda: part("train"), "test": lambda: part("test")}


def open_images(info, data_dir, split, resize=False, split_seed=0, test_fraction=0.1):
    """The images of one split, brought to the data set's size.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of its files, or None.
        split: `"train"`, `"validation"` or `"test"`.
        resize: resize images of any other size. Default False.
        split_seed, test_fraction: as of `open_splits`.

    Returns:
        An image store whose images are uint8 [H, W, C], without padding.

    Raises:
        ValueError: unknown split, one that the source does not have, or damaged files.
        FileNotFoundError: the folder or its files are not there.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}. Received: {split!r}")
    source, splits = open_splits(info, data_dir, split_seed, test_fraction)
    if split not in splits:
        raise ValueError(f"split: {info.name} as found ({source}) has {sorted(splits)}. Received: {split!r}")
    store = splits[split]()
    if not len(store):
        raise ValueError(f"{store.source}: expected images. Received: none")
    return store if is_encoded(store) else FittedStore(store, info.fit(resize))
