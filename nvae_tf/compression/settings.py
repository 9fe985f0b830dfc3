"""What can be compressed, and the settings that compression and decompression share."""

import dataclasses
import math

from nvae_tf.compression.levels import image_shape

_LIKELIHOODS = ("bernoulli", "logistic_mixture")
_MAX_BATCH, _MAX_CHUNK = 16, 1000


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that both directions must share.

    Attributes:
        steps: steps of the latents' grid in one standard deviation of the prior.
        batch_size: images that the networks take at once.
        growth: images of a chunk that come before each further image in a batch. The latents of a whole batch are on
            the stack before the bits of its images are, and the stack holds these bits only after some images.
        active: for each group, the tuple of its latent channels that are coded.
    """

    steps: int
    batch_size: int
    growth: int
    active: tuple

    def batches(self, count):
        """Sizes of the batches of a chunk of `count` images, in the order of compression."""
        sizes = []
        while count > 0:
            done = sum(sizes)
            sizes.append(min(1 + done // self.growth, self.batch_size, count))
            count -= sizes[-1]
        return sizes


def check_supported(config):
    """Raises ValueError, with the reason, if images cannot be compressed with a `ModelConfig`."""
    if config.family != "nvae":
        raise ValueError(f"model.family: expected nvae to compress with. Received: {config.family}")
    if config.num_flows:
        raise ValueError(
            "model.num_flows: expected 0 to compress with, because a flow moves latents off the grid on which both "
            f"directions of the coder must find them. Received: {config.num_flows}"
        )
    if config.likelihood not in _LIKELIHOODS:
        raise ValueError(
            f"model.likelihood: expected {' or '.join(_LIKELIHOODS)} to compress with, which give every level of a "
            f"pixel a probability. Received: {config.likelihood}"
        )


def default_batch_size(config):
    """Images that the networks of a `ModelConfig` take at once if nothing else is said."""
    return max(min(2**18 // (config.image_height * config.image_width), _MAX_BATCH), 1)


def default_chunk_images(config):
    """Images of a chunk if nothing else is said: fewer of larger images, so that a chunk takes minutes."""
    return max(min(2**22 // math.prod(image_shape(config)), _MAX_CHUNK), 1)
