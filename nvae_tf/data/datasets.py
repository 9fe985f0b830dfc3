"""The data sets, in one table: name -> sizes, splits, how NVAE models them, and what they can be read from.

Another data set is another row of `DATASETS`; another file format is another source in `nvae_tf.data.sources`.
"""

import dataclasses

from nvae_tf.data.decode import Fit

_PHOTOS = {"channels": 3, "likelihood": "logistic_mixture", "horizontal_flip": True}
_ENCODED = ("image_folder", "zip")
_ARRAYS = ("npz",)
_AT_256 = {"image_size": 256, "bit_depth": 5, "resize": True, **_PHOTOS}


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetInfo:
    """One data set.

    Attributes:
        name: what `DataConfig.dataset` calls it.
        image_size: height and width of the images as the model sees them, padding included; None for those of the
            model's configuration.
        channels: 1 or 3; None for those of the model's configuration.
        likelihood: the likelihood it is modelled with (arXiv 2007.03898, appendix A); None for any.
        sources: names in `nvae_tf.data.sources.SOURCES`, best first. Prepared records are a source of every set.
        padding: zeros added on every side of the stored images; they do not count in the likelihood.
        bit_depth: bits per value of the published run, or of the customary one where there is none.
        binarize: whether it is binarised dynamically.
        horizontal_flip: whether training flips images left to right.
        crop, crop_size, resize: as of `nvae_tf.data.decode.Fit`: what it needs in its published form.
        num_images: {split: count} of the whole set; None where it has no fixed one.
        num_test: images held out, by a seeded shuffle, where a source has no splits of its own; None for a fraction.
        tfds_name: its name in TensorFlow Datasets; None where it is not there.
        note: what someone who compares results must know; "" for nothing.
    """

    name: str
    image_size: int | None
    channels: int | None
    likelihood: str | None
    sources: tuple
    padding: int = 0
    bit_depth: int = 8
    binarize: bool = False
    horizontal_flip: bool = False
    crop: tuple | None = None
    crop_size: tuple | None = None
    resize: bool = False
    num_images: dict | None = None
    num_test: int | None = None
    tfds_name: str | None = None
    note: str = ""

    @property
    def stored_size(self):
        """Height and width of the images without padding; None as `image_size`."""
        return None if self.image_size is None else self.image_size - 2 * self.padding

    @property
    def num_outputs(self):
        """Values of an image that count for bits per dimension; None as `image_size`."""
        return None if self.image_size is None else self.channels * self.stored_size**2

    def with_size(self, image_size, channels):
        """The same with what the model's configuration has, where the set leaves it open."""
        return dataclasses.replace(self, image_size=self.image_size or image_size, channels=self.channels or channels)

    def fit(self, resize=False):
        """The `Fit` of its stored images, which also resizes any other size where `resize` is True."""
        return Fit(self.stored_size, self.stored_size, self.crop, self.crop_size, self.resize or resize, resize)


def _grey(name, sources, num_images, **changes):
    return DatasetInfo(
        name=name,
        image_size=32,
        channels=1,
        likelihood="bernoulli",
        sources=sources,
        padding=2,
        binarize=True,
        num_images=num_images,
        **changes,
    )


def _imagenet(size, year, num_images):
    other = f"imagenet{size}" if year else f"imagenet{size}_2021"
    version = "the re-release of 2021" if year else "the original version of van den Oord et al. (2016)"
    return DatasetInfo(
        name=f"imagenet{size}{year}",
        image_size=size,
        sources=("pickled_batches", "npz") if year else ("glow", "lmdb", "image_folder", "zip", "npz", "tfds"),
        num_images=num_images,
        tfds_name=None if year else f"downsampled_imagenet/{size}x{size}",
        note=f"This is {version}; it was resized by another method than {other}, and results are not comparable.",
        **_PHOTOS,
    )


def _lsun(category, size, num_train):
    return DatasetInfo(
        name=f"lsun_{category}{size}",
        image_size=size,
        sources=("lsun_lmdb", "lmdb", "glow", *_ENCODED, *_ARRAYS),
        bit_depth=5 if size == 256 else 8,
        resize=True,
        num_images={"train": num_train, "test": 300},
        num_test=300,
        **_PHOTOS,
    )


_MNIST_IMAGES = {"train": 60_000, "test": 10_000}
_ROWS = (
    DatasetInfo(
        name="digits",
        image_size=16,
        channels=1,
        likelihood="bernoulli",
        sources=("digits",),
        binarize=True,
        num_images={"train": 1_437, "test": 360},
    ),
    _grey("mnist", ("idx", *_ARRAYS, *_ENCODED, "tfds"), _MNIST_IMAGES, tfds_name="mnist"),
    _grey("fashion_mnist", ("idx", *_ARRAYS, *_ENCODED, "tfds"), _MNIST_IMAGES, tfds_name="fashion_mnist"),
    DatasetInfo(
        name="stacked_mnist",
        image_size=32,
        channels=3,
        likelihood="logistic_mixture",
        sources=("stacked_idx",),
        padding=2,
        num_images=_MNIST_IMAGES,
        note="Three digits of MNIST in the three channels, drawn with a fixed seed.",
    ),
    _grey(
        "omniglot",
        ("omniglot_mat", "omniglot_tree", *_ARRAYS, "tfds"),
        {"train": 24_345, "test": 8_070},
        tfds_name="omniglot",
        resize=True,
        note="The published split and 28x28 images are those of chardata.mat; the image tree has another split (19,280 "
        "and 13,180) and is resized here: results are not comparable.",
    ),
    DatasetInfo(
        name="cifar10",
        image_size=32,
        sources=("cifar", *_ARRAYS, *_ENCODED, "tfds"),
        num_images={"train": 50_000, "test": 10_000},
        tfds_name="cifar10",
        **_PHOTOS,
    ),
    DatasetInfo(
        name="celeba64",
        image_size=64,
        sources=("lmdb", "celeba_tree", "glow", *_ENCODED, *_ARRAYS, "tfds"),
        crop=(40, 15, 188, 163),
        crop_size=(218, 178),
        num_images={"train": 162_770, "validation": 19_867, "test": 19_962},
        num_test=19_962,
        tfds_name="celeb_a",
        **_PHOTOS,
    ),
    _imagenet(32, "", {"train": 1_281_149, "test": 49_999}),
    _imagenet(32, "_2021", {"train": 1_281_167, "test": 50_000}),
    _imagenet(64, "", {"train": 1_281_149, "test": 49_999}),
    _imagenet(64, "_2021", {"train": 1_281_167, "test": 50_000}),
    DatasetInfo(
        name="celeba_hq256",
        sources=("glow", "lmdb", *_ENCODED, *_ARRAYS, "tfds"),
        num_images={"train": 27_000, "test": 3_000},
        num_test=3_000,
        tfds_name="celeb_a_hq/256",
        **_AT_256,
    ),
    DatasetInfo(
        name="ffhq256",
        sources=("glow", "lmdb", *_ENCODED, *_ARRAYS),
        num_images={"train": 63_000, "test": 7_000},
        num_test=7_000,
        **_AT_256,
    ),
    _lsun("bedroom", 128, 3_033_042),
    _lsun("bedroom", 256, 3_033_042),
    _lsun("church", 64, 126_227),
    _lsun("church", 128, 126_227),
    _lsun("tower", 128, 708_264),
    DatasetInfo(
        name="folder",
        image_size=None,
        channels=None,
        likelihood=None,
        sources=("glow", "lmdb", "lsun_lmdb", "pickled_batches", *_ENCODED, *_ARRAYS, "tfds"),
        horizontal_flip=False,
    ),
)
DATASETS = {row.name: row for row in _ROWS}
TFDS_PREFIX = "tfds:"


def dataset_info(name):
    """The `DatasetInfo` of a name; raises `ValueError` if there is none.

    `tfds:NAME` is any image data set of TensorFlow Datasets, with the size and channels of the model.
    """
    if name.startswith(TFDS_PREFIX) and name != TFDS_PREFIX:
        return dataclasses.replace(
            DATASETS["folder"], name=name, sources=("tfds",), tfds_name=name.removeprefix(TFDS_PREFIX)
        )
    if name not in DATASETS:
        raise ValueError(f"data.dataset: expected one of {sorted(DATASETS)} or tfds:NAME. Received: {name!r}")
    return DATASETS[name]
