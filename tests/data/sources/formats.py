"""The table of formats, and functions that read the splits that a source finds."""

import dataclasses
from collections.abc import Callable

import numpy as np

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources import SOURCES
from tests.data.sources import writers


def read(split, indices=None):
    """Images of a `SourceSplit`, [N, H, W, C]; raises the error of a damaged image."""
    images = []
    for _, image in split.read(np.arange(split.num_images) if indices is None else np.array(indices)):
        if isinstance(image, Exception):
            raise image
        images.append(image)
    return np.stack(images)


def names(split):
    """Names of a `SourceSplit`'s images."""
    return [name for name, _ in split.read(np.arange(split.num_images))]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format and a function that writes it.

    Attributes:
        source: name in `SOURCES`.
        dataset: name of a data set that is distributed in this format.
        write: function of a folder and {split: images}.
        splits: names of the splits in this format.
        has_items: whether a single image can be damaged.
    """

    source: str
    dataset: str
    write: Callable
    splits: tuple = ("train", "test")
    has_items: bool = True

    @property
    def info(self):
        return dataset_info(self.dataset).with_size(32, 3)

    def find(self, root):
        """{split: `SourceSplit`} that the source finds."""
        return {split: make() for split, make in SOURCES[self.source].find(root, self.info).items()}

    def images(self):
        """{split: images}: 7 for training, 3 for each other split."""
        info, random = self.info, np.random.default_rng(0)
        shape = (info.stored_size, info.stored_size, info.channels)
        return {
            split: random.integers(0, 256, (7 if split == "train" else 3, *shape), np.uint8) for split in self.splits
        }


VALIDATION = ("train", "validation")
FORMATS = {
    "idx": Format("idx", "mnist", writers.write_idx, has_items=False),
    "idx gzipped": Format("idx", "fashion_mnist", writers.write_idx_gz, has_items=False),
    "cifar binary": Format("cifar", "cifar10", writers.write_cifar_binary, has_items=False),
    "cifar pickles": Format("cifar", "cifar10", writers.write_cifar_pickles, has_items=False),
    "cifar binary archive": Format("cifar", "cifar10", writers.write_cifar_archive, has_items=False),
    "cifar python archive": Format("cifar", "cifar10", writers.write_cifar_pickle_archive, has_items=False),
    "pickled batches": Format("pickled_batches", "imagenet64_2021", writers.write_pickled_batches, VALIDATION, False),
    "npz batches": Format("pickled_batches", "imagenet32_2021", writers.write_npz_batches, VALIDATION, False),
    "mat": Format("omniglot_mat", "omniglot", writers.write_mat, has_items=False),
    "omniglot tree": Format("omniglot_tree", "omniglot", writers.write_omniglot_tree),
    "omniglot zips": Format("omniglot_tree", "omniglot", writers.write_omniglot_zips),
    "celeba tree": Format("celeba_tree", "celeba64", writers.write_celeba_tree, ("train", "validation", "test")),
    "celeba zip": Format("celeba_tree", "celeba64", writers.write_celeba_zip, ("train", "validation", "test")),
    "folder": Format("image_folder", "folder", writers.write_folder, ("train", "validation", "test")),
    "one zip": Format("zip", "folder", writers.write_one_zip),
    "zips": Format("zip", "imagenet32", writers.write_zips, VALIDATION),
    "npy": Format("npz", "cifar10", writers.write_npy, has_items=False),
    "npz": Format("npz", "cifar10", writers.write_npz, has_items=False),
    "glow": Format("glow", "folder", writers.write_glow, ("train", "validation", "test")),
    "lmdb": Format("lmdb", "celeba64", writers.write_lmdb, VALIDATION),
    "raw lmdb": Format("lmdb", "imagenet32", writers.write_raw_lmdb),
    "lsun": Format("lsun_lmdb", "lsun_church64", writers.write_lsun, VALIDATION),
    "tfds": Format("tfds", "tfds:tiny", writers.write_tfds),
}
"""One row for each format and each form that it comes in."""
