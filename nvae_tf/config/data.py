"""Configuration of the images that a run uses."""

import dataclasses

from nvae_tf.config.validation import at_least, check_fields, one_of

SPLIT_RULES = ("name", "permutation")
DRAWN_BY = ("split_seed", "test_fraction", "split_rule")  # fields that decide how a split is drawn


@dataclasses.dataclass(slots=True)
class DataConfig:
    """Which images to train on and how they are prepared.

    Attributes:
        dataset: name of a data set in `nvae_tf.data.datasets`, or `tfds:NAME`. Default `"digits"`.
        binarize: whether to draw pixels afresh from Bernoullis (dynamic binarisation, paper appendix A). Default False.
        horizontal_flip: whether to flip images left to right at random in training. Default False.
        validation_images: number of images held out from the training split, drawn with `split_seed`. Default 0.
        split_seed: seed of the draw of the validation images, and of the test images if a data set has no test split.
            Default 0.
        test_fraction: fraction of the images held out if neither the files nor the data set define a test split.
            Default 0.1.
        split_rule: how images are drawn for these splits: by `"name"`, a hash of `split_seed` and the image's name, so
            that a folder that grows keeps images on their sides; or by a `"permutation"` that depends on their number,
            as in runs from before this field. A run keeps the rule that it began with. Default `"name"`.
        resize: crop images of another size to the model's aspect ratio, around the centre, and resize them
            (antialiased). If False, another size is an error, except for data sets that are published that way.
            Default False.
        max_damaged: maximum number of damaged images in a split, which are reported and left out; more are an error.
            Default 10.
        cache_gib: images are decoded once and kept in memory if they take at most this many GiB. Default 4.
    """

    dataset: str = "digits"
    binarize: bool = False
    horizontal_flip: bool = False
    validation_images: int = 0
    split_seed: int = 0
    test_fraction: float = 0.1
    split_rule: str = "name"
    resize: bool = False
    max_damaged: int = 10
    cache_gib: float = 4.0

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        rules = (
            (at_least(0), ("validation_images", "split_seed", "max_damaged", "cache_gib")),
            (("a fraction between 0 and 1", lambda value: 0 < value < 1), ("test_fraction",)),
            (one_of(SPLIT_RULES), ("split_rule",)),
        )
        check_fields(self, "data", rules)
        return self
