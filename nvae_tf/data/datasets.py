"""The table of data sets: their sizes, their splits and the formats that they are read from.

A new data set is a row of `DATASETS`; a new file format is a source in `nvae_tf.data.sources`.
"""

import dataclasses

from nvae_tf.data.decode import Fit

_FILES = ("image_folder", "zip", "npz")


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetInfo:
    """One data set.

    Attributes:
        name: value of `DataConfig.dataset`.
        image_size: height and width of the images as the model sees them, padding included; None for those of the
            model's configuration.
        channels: 1 or 3; None for those of the model's configuration.
        sources: names in `nvae_tf.data.sources.SOURCES`, best first. Prepared records are a source of every set.
        padding: zeros added on every side of the stored images; they do not count in the likelihood.
        bit_depth: bits per value of published results.
        crop, crop_size, resize: how the published set was made; see `nvae_tf.data.decode.Fit`.
        num_images: {split: count} of the whole set; None if it has no fixed one.
        num_test: number of images held out at random if a source has no splits of its own; None for a fraction.
        tfds_name: name in TensorFlow Datasets; None if it is not there.
        note: a warning for those who compare results; "" if there is none.
    """

    name: str
    image_size: int | None
    channels: int | None
    sources: tuple
    num_images: dict | None = None
    padding: int = 0
    bit_depth: int = 8
    crop: tuple | None = None
    crop_size: tuple | None = None
    resize: bool = False
    num_test: int | None = None
    tfds_name: str | None = None
    note: str = ""

    @property
    def stored_size(self):
        """Height and width of the images without padding, or None as in `image_size`."""
        return None if self.image_size is None else self.image_size - 2 * self.padding

    def with_size(self, image_size, channels):
        """A copy in which a size or number of channels that the data set leaves open is that of the model."""
        return dataclasses.replace(self, image_size=self.image_size or image_size, channels=self.channels or channels)

    def fit(self, resize=False):
        """The `Fit` of its stored images; with `resize` it also resizes images of any other size."""
        return Fit(self.stored_size, self.stored_size, self.crop, self.crop_size, self.resize or resize, resize)


def _imagenet(size, year):
    other = f"imagenet{size}" if year else f"imagenet{size}_2021"
    version = "the release of 2021" if year else "the original version of van den Oord et al. (2016)"
    return DatasetInfo(
        f"imagenet{size}{year}",
        size,
        3,
        ("pickled_batches", "npz") if year else ("glow", "lmdb", *_FILES, "tfds"),
        {"train": 1_281_167, "test": 50_000} if year else {"train": 1_281_149, "test": 49_999},
        tfds_name=None if year else f"downsampled_imagenet/{size}x{size}",
        note=f"This is {version}; it was resized by another method than {other}, and results are not comparable.",
    )


def _lsun(category, size, num_train):
    return DatasetInfo(
        f"lsun_{category}{size}",
        size,
        3,
        ("lsun_lmdb", "lmdb", "glow", *_FILES),
        {"train": num_train, "test": 300},
        bit_depth=5 if size == 256 else 8,
        resize=True,
        num_test=300,
    )


_IDX = ("idx", "npz", "image_folder", "zip", "tfds")
_MNIST_IMAGES = {"train": 60_000, "test": 10_000}
_ROWS = (
    DatasetInfo("digits", 16, 1, ("digits",), {"train": 1_437, "test": 360}),
    DatasetInfo("mnist", 32, 1, _IDX, _MNIST_IMAGES, padding=2, tfds_name="mnist"),
    DatasetInfo("fashion_mnist", 32, 1, _IDX, _MNIST_IMAGES, padding=2, tfds_name="fashion_mnist"),
    DatasetInfo(
        "stacked_mnist",
        32,
        3,
        ("idx",),
        _MNIST_IMAGES,
        padding=2,
        note="Three digits of MNIST in the three channels, drawn with a fixed seed.",
    ),
    DatasetInfo(
        "omniglot",
        32,
        1,
        ("omniglot_mat", "omniglot_tree", "npz", "tfds"),
        {"train": 24_345, "test": 8_070},
        padding=2,
        resize=True,
        tfds_name="omniglot",
        note="The published split and 28x28 images are those of chardata.mat; the image tree has another split (19,280 "
        "and 13,180) and is resized here: results are not comparable.",
    ),
    DatasetInfo(
        "cifar10",
        32,
        3,
        ("cifar", "npz", "image_folder", "zip", "tfds"),
        {"train": 50_000, "test": 10_000},
        tfds_name="cifar10",
    ),
    DatasetInfo(
        "celeba64",
        64,
        3,
        ("lmdb", "celeba_tree", "glow", *_FILES, "tfds"),
        {"train": 162_770, "validation": 19_867, "test": 19_962},
        crop=(40, 15, 188, 163),
        crop_size=(218, 178),
        num_test=19_962,
        tfds_name="celeb_a",
    ),
    *(_imagenet(size, year) for size in (32, 64) for year in ("", "_2021")),
    DatasetInfo(
        "celeba_hq256",
        256,
        3,
        ("glow", "lmdb", *_FILES, "tfds"),
        {"train": 27_000, "test": 3_000},
        bit_depth=5,
        resize=True,
        num_test=3_000,
        tfds_name="celeb_a_hq/256",
    ),
    DatasetInfo(
        "ffhq256",
        256,
        3,
        ("glow", "lmdb", *_FILES),
        {"train": 63_000, "test": 7_000},
        bit_depth=5,
        resize=True,
        num_test=7_000,
    ),
    _lsun("bedroom", 128, 3_033_042),
    _lsun("bedroom", 256, 3_033_042),
    _lsun("church", 64, 126_227),
    _lsun("church", 128, 126_227),
    _lsun("tower", 128, 708_264),
    DatasetInfo("folder", None, None, ("glow", "lmdb", "lsun_lmdb", "pickled_batches", *_FILES, "tfds")),
)
DATASETS = {row.name: row for row in _ROWS}
TFDS_PREFIX = "tfds:"


def dataset_info(name):
    """The `DatasetInfo` of a name; raises `ValueError` for an unknown name.

    `tfds:NAME` is any image data set of TensorFlow Datasets, with the size and channels of the model.
    """
    if name.startswith(TFDS_PREFIX) and name != TFDS_PREFIX:
        return dataclasses.replace(
            DATASETS["folder"], name=name, sources=("tfds",), tfds_name=name.removeprefix(TFDS_PREFIX)
        )
    if name not in DATASETS:
        raise ValueError(f"data.dataset: expected one of {sorted(DATASETS)} or tfds:NAME. Received: {name!r}")
    return DATASETS[name]
