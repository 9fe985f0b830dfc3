"""The data sets, in one table: name -> source, shape, and how NVAE models it.

Another data set is another row of `DATASETS`, with a function that reads its images.
"""

import collections.abc
import dataclasses

import numpy as np

from nvae_tf.data.cifar import read_cifar10
from nvae_tf.data.digits import read_digits
from nvae_tf.data.mnist import read_mnist

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetInfo:
    """One data set.

    Attributes:
        name: what `DataConfig.dataset` calls it.
        image_height, image_width, channels: of the images as the model sees them, padding included.
        padding: zeros added on every side of the stored images; they do not count in the likelihood.
        likelihood: the likelihood it is modelled with (arXiv 2007.03898, appendix A).
        binarize: whether it is binarised dynamically by default.
        horizontal_flip: whether training flips images left to right by default.
        levels: intensity levels of a pixel at the source.
        read: function of (data_dir, split) that gives the stored images, uint8 [N, H, W, C] without padding.
    """

    name: str
    image_height: int
    image_width: int
    channels: int
    padding: int
    likelihood: str
    binarize: bool
    horizontal_flip: bool
    levels: int
    read: collections.abc.Callable


_ROWS = (
    DatasetInfo(
        name="digits",
        image_height=16,
        image_width=16,
        channels=1,
        padding=0,
        likelihood="bernoulli",
        binarize=True,
        horizontal_flip=False,
        levels=17,
        read=read_digits,
    ),
    DatasetInfo(
        name="mnist",
        image_height=32,
        image_width=32,
        channels=1,
        padding=2,
        likelihood="bernoulli",
        binarize=True,
        horizontal_flip=False,
        levels=256,
        read=read_mnist,
    ),
    DatasetInfo(
        name="cifar10",
        image_height=32,
        image_width=32,
        channels=3,
        padding=0,
        likelihood="logistic_mixture",
        binarize=False,
        horizontal_flip=True,
        levels=256,
        read=read_cifar10,
    ),
)
DATASETS = {row.name: row for row in _ROWS}


def dataset_info(name):
    """The `DatasetInfo` of a name; raises `ValueError` if there is none."""
    if name not in DATASETS:
        raise ValueError(f"dataset: expected one of {sorted(DATASETS)}. Received: {name!r}")
    return DATASETS[name]


def load(name, data_dir, split):
    """Loads the images of one split into memory.

    Args:
        name: a key of `DATASETS`.
        data_dir: folder of the data set's files, or its parent; `digits` needs none.
        split: `"train"` or `"test"`.

    Returns:
        uint8, [N, H, W, C], padded to the size the model sees.

    Raises:
        ValueError: unknown name or split, no `data_dir`, or a damaged file.
        FileNotFoundError: the folder or its files are not there.
    """
    info = dataset_info(name)
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}. Received: {split!r}")
    images = info.read(data_dir, split)
    sides = (info.padding, info.padding)
    return np.pad(images, ((0, 0), sides, sides, (0, 0)))
