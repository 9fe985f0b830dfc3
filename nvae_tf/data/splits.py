"""Opens the splits of a data set in a folder, whatever format its images are stored in."""

import dataclasses
import hashlib
import pathlib

import numpy as np

from nvae_tf.config import DataConfig
from nvae_tf.data.datasets import DATASETS
from nvae_tf.data.decode import DamagedImageError, Fit
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources import SOURCES
from nvae_tf.data.sources.image_folder import list_images
from nvae_tf.data.sources.names import contents, listed
from nvae_tf.data.sources.selection import by_kind

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class SplitImages:
    """The images of one split, cropped and resized to the size of the data set. Can be pickled.

    Attributes:
        split: `SourceSplit` that they are read from.
        indices: increasing int64 array of the indices in `split` of these images.
        fit: `Fit` that crops and resizes the images.
        channels: number of channels of every image.
    """

    split: SourceSplit
    indices: np.ndarray
    fit: Fit
    channels: int

    def __len__(self):
        return len(self.indices)

    @property
    def names(self):
        """Names that decide where a split is drawn: see `SourceSplit.names`, or the numbers of the images."""
        names = self.split.names
        return range(len(self)) if names is None else [names[index] for index in self.indices.tolist()]

    def subset(self, indices):
        """The `SplitImages` with only some of these images, given by their numbers in increasing order."""
        return dataclasses.replace(self, indices=self.indices[indices])

    def read(self, numbers=slice(None)):
        """Yields (name, uint8 [H, W, C] or `DamagedImageError`) for the given images, by default all."""
        for name, image in self.split.read(self.indices[numbers]):
            yield name, image if isinstance(image, DamagedImageError) else self.fit(image, name)


def _find_splits(info, data_dir):
    """Name of the first source of the data set that finds splits, and the splits."""
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
    other = DATASETS.get(f"{info.name}_2021")
    if other is not None and SOURCES["pickled_batches"].find(root, other):
        raise ValueError(f"data_dir: {root} holds {other.name}, expected {info.name}. {other.note}")
    raise FileNotFoundError(
        f"data_dir: expected {info.name} in one of these forms. Received: {contents(root)}; "
        f"files: {listed(by_kind(list_images(root)[1])) or 'none'}{looked_for}"
    )


def _draws(names, seed):
    """A number from 0 to 1 for each name, the same on every machine and for every format of the file."""
    texts = (f"{seed}/{str(name).rpartition('.')[0] or name}".encode("utf-8", "surrogateescape") for name in names)
    return np.array([int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2**64 for text in texts])


def seeded_split(num_images, num_test, seed, names=None):
    """Divides images at random into sorted int64 indices, {"train": ..., "test": ...}.

    `num_test` is the number of held-out images, or their fraction (at least one image). With `names`, each draws a
    number from 0 to 1: the `num_test` lowest are held out, or those below the fraction (though at least one, and not
    all), so that an image stays on its side whatever others there are. Without, the images are shuffled, which depends
    on `num_images`. Raises ValueError if no image is left for training.
    """
    draws = None if names is None else _draws(names, seed)
    count = num_test if isinstance(num_test, int) else max(round(num_test * num_images), 1)
    if draws is not None and count is not num_test and num_images > 1:
        count = np.clip((draws < num_test).sum(), 1, num_images - 1)
    if not 0 < count < num_images:
        raise ValueError(
            f"expected more than {max(count, 1)} images, of which {count} are held out. Received: {num_images}"
        )
    # NumPy guarantees the stream of RandomState, so the split never changes.
    order = np.random.RandomState(seed).permutation(num_images) if draws is None else np.argsort(draws, kind="stable")
    return {"train": np.sort(order[count:]), "test": np.sort(order[:count])}


def divide(images, num_test, config):
    """`seeded_split` of `SplitImages` by the seed and rule of a `DataConfig`; the error names the source."""
    names = images.names if config.split_rule == "name" else None
    try:
        return seeded_split(len(images), num_test, config.split_seed, names)
    except ValueError as error:
        raise ValueError(f"{images.split.source}: {error}") from error


def open_splits(info, data_dir, config=None):
    """Opens the splits of a data set; if the source has none, held-out images are drawn at random.

    Args:
        info: `DatasetInfo` with its size and channels.
        data_dir: folder of its files, or None.
        config: `DataConfig`, whose fields on resizing and the split count. Default `DataConfig()`.

    Returns:
        (name of the source, {split: function of no arguments that returns `SplitImages`}), always with "train" and
        "test". If the only held-out images are called validation, as in ImageNet and LSUN, they become "test".

    Raises:
        ValueError: `data_dir` is needed but None, files are damaged, or there are no training images.
        FileNotFoundError: the folder does not exist, or the data set is not found in it.
    """
    config = config or DataConfig()
    source, found = _find_splits(info, data_dir)
    if "test" not in found and "validation" in found:
        found = {**found, "test": found["validation"]}
        del found["validation"]

    def make(name, part=None):
        split = found[name]()
        if not split.num_images:
            raise ValueError(f"{split.source}: expected images. Received: none")
        images = SplitImages(split, np.arange(split.num_images), info.fit(config.resize), info.channels)
        if part is None:
            return images
        # An incomplete copy of a published set may have fewer images than are held out of the whole.
        published = info.num_test if info.num_test and info.num_test < len(images) // 2 else None
        return images.subset(divide(images, published or config.test_fraction, config)[part])

    whole = "all" if "all" in found else "train" if "test" not in found and "train" in found else None
    if whole:
        return source, {part: lambda part=part: make(whole, part) for part in ("train", "test")}
    if "train" not in found:
        received = f"none in {data_dir}\n{next(iter(found.values()))().selection}".strip()
        raise ValueError(f"data_dir: expected training images beside {sorted(found)}. Received: {received}")
    return source, {name: lambda name=name: make(name) for name in found}


def open_images(info, data_dir, split, config=None):
    """`SplitImages` of "train", "validation" or "test"; see `open_splits`. A missing split is an error."""
    source, splits = open_splits(info, data_dir, config)
    if split not in splits:
        raise ValueError(f"split: {info.name} as found ({source}) has {sorted(splits)}. Received: {split!r}")
    return splits[split]()
