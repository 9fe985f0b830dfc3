"""Which images a run sees."""

import dataclasses

from nvae_tf.config.validation import require_at_least


@dataclasses.dataclass(slots=True)
class DataConfig:
    """Which images to train on and how they are prepared.

    Attributes:
        dataset: name of a data set in `nvae_tf.data.datasets`. Default `"digits"`.
        binarize: draw each pixel as a fresh Bernoulli (dynamic binarisation, paper appendix A). Default False.
        horizontal_flip: flip images left to right at random in training. Default False.
        validation_images: images held out from the end of the training split; 0 for none. Default 0.
    """

    dataset: str = "digits"
    binarize: bool = False
    horizontal_flip: bool = False
    validation_images: int = 0

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        require_at_least(self, "data", 0, "validation_images")
        return self
