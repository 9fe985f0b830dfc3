"""Which images a run sees."""

import dataclasses

from nvae_tf.config.validation import require, require_at_least


@dataclasses.dataclass(slots=True)
class DataConfig:
    """Which images to train on and how they are prepared.

    Attributes:
        dataset: name of a data set in `nvae_tf.data.datasets`, or `tfds:NAME`. Default `"digits"`.
        binarize: draw each pixel as a fresh Bernoulli (dynamic binarisation, paper appendix A). Default False.
        horizontal_flip: flip images left to right at random in training. Default False.
        validation_images: images held out from the training split, drawn by `split_seed`; 0 for none. Default 0.
        split_seed: of the split of a data set that has none, and of the validation images. Default 0.
        test_fraction: of the images, held out where neither the files nor the data set say which. Default 0.1.
        resize: cut images of another size to the model's aspect ratio, in the middle, and resize them (antialiased).
            Otherwise another size is an error, but for the data sets that are published so. Default False.
        max_damaged: images of a split that may be damaged: they are named and left out; one more is an error.
            Default 10.
        cache_gib: images are decoded once and kept in memory when they take no more than so many GiB. Default 4.
    """

    dataset: str = "digits"
    binarize: bool = False
    horizontal_flip: bool = False
    validation_images: int = 0
    split_seed: int = 0
    test_fraction: float = 0.1
    resize: bool = False
    max_damaged: int = 10
    cache_gib: float = 4.0

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        require_at_least(self, "data", 0, "validation_images", "split_seed", "max_damaged", "cache_gib")
        require(0.0 < self.test_fraction < 1.0, "data.test_fraction", self.test_fraction, "a fraction between 0 and 1")
        return self
