"""Configuration of BIVA."""

import dataclasses

from nvae_tf.config.validation import BELOW_ONE, NOT_NEGATIVE, at_least, check_fields, of_family, one_of

BIVA_LIKELIHOODS = ("bernoulli", "logistic_mixture")


@dataclasses.dataclass(slots=True)
class BIVAConfig:
    """The architecture of BIVA (Maaløe et al. 2019, arXiv 1902.02102). The defaults are the published model of MNIST.

    The tuples have an entry for each stage, and the first stage is that at the image.

    Attributes:
        family: `"biva"`.
        image_height, image_width: size of the images the model sees (padding included). Defaults 28.
        image_channels: 1 for grey, 3 for RGB; any number works. Default 1.
        likelihood: `"bernoulli"` or `"logistic_mixture"`. Default `"bernoulli"`.
        padding: pixels on every side that were added to the data and do not count in the likelihood. Default 0.
        bit_depth: bits per image value. Default 8.
        num_mixtures: components of the logistic mixture. Default 10.
        channels: width of all blocks. Default 64.
        kernel_sizes: for each stage, the side of the kernels in each of its blocks; all stages have as many blocks.
            Default three blocks in each of 6 stages, with 5 in the first stage and 3 in the others.
        downsampled_stages: numbers, from 1, of the stages at whose end the resolution is halved. Default (1, 6).
        latent_sizes: units, or channels, of each latent of a stage: the last stage has one, the others have two.
            Default (48, 40, 32, 24, 16, 8).
        head_kernel_sizes: side of the kernels of the layers that compute means and variances; 0 makes the latents of a
            stage vectors, computed by dense layers. Default 0 for all stages.
        posterior_dropout, prior_dropout: rates of dropout in the blocks of the posteriors and of the priors. Defaults
            0.5.
        free_bits: KL in nats, of each latent of each image, below which the objective does not reward a smaller one.
            Default 2.
    """

    family: str = "biva"
    image_height: int = 28
    image_width: int = 28
    image_channels: int = 1
    likelihood: str = "bernoulli"
    padding: int = 0
    bit_depth: int = 8
    num_mixtures: int = 10
    channels: int = 64
    kernel_sizes: tuple = ((5, 5, 5),) + ((3, 3, 3),) * 5
    downsampled_stages: tuple = (1, 6)
    latent_sizes: tuple = (48, 40, 32, 24, 16, 8)
    head_kernel_sizes: tuple = (0,) * 6
    posterior_dropout: float = 0.5
    prior_dropout: float = 0.5
    free_bits: float = 2.0

    @property
    def num_stages(self):
        """Number of stages."""
        return len(self.kernel_sizes)

    @property
    def downsampling(self):
        """Factor between the size of the image and that of the last stage."""
        return 2 ** len(self.downsampled_stages)

    def resolution(self, stage):
        """(height, width) after a stage, numbered from 0."""
        factor = 2 ** sum(number <= stage + 1 for number in self.downsampled_stages)
        return self.image_height // factor, self.image_width // factor

    def latent_shape(self, stage):
        """(units,) or (height, width, channels) of each latent of a stage, numbered from 0."""
        size = self.latent_sizes[stage]
        return (*self.resolution(stage), size) if self.head_kernel_sizes[stage] else (size,)

    @property
    def objective(self):
        """What training minimises, in words."""
        return f"−ELBO with a KL of at least {self.free_bits:g} nats per latent" if self.free_bits else "−ELBO"

    @property
    def latent_levels(self):
        """Index of the stage of each latent in generation order, in which the last stage has index 0."""
        return [(index + 1) // 2 for index in range(2 * self.num_stages - 1)]

    @property
    def latent_shapes(self):
        """Shape of each latent of an image in generation order: that of the last stage, then two of each stage."""
        return [self.latent_shape(self.num_stages - 1 - level) for level in self.latent_levels]

    def validate(self):
        """Raises `ConfigError` if no model can be built from this configuration; returns self."""
        rules = (
            (of_family("biva"), ("family",)),
            (at_least(0), ("padding",)),
            (at_least(1), ("image_height", "image_width", "image_channels", "num_mixtures", "channels")),
            (("1 to 8", range(1, 9).__contains__), ("bit_depth",)),
            (one_of(BIVA_LIKELIHOODS), ("likelihood",)),
            (BELOW_ONE, ("posterior_dropout", "prior_dropout")),
            (NOT_NEGATIVE, ("free_bits",)),
            (("a tuple of at least one stage, each a tuple of as many positive ints", _are_stages), ("kernel_sizes",)),
        )
        check_fields(self, "model", rules)
        count, factor, padding = self.num_stages, self.downsampling, self.padding
        sides = ("image_height", "image_width")
        multiple = f"a multiple of {factor} (2 ** len(downsampled_stages))"
        together = (
            (_ints(count, 1), ("latent_sizes",)),
            (_ints(count, 0), ("head_kernel_sizes",)),
            (_numbers_up_to(count), ("downsampled_stages",)),
            ((multiple, lambda side: side % factor == 0), sides),
            ((f"more than twice the padding of {padding}", lambda side: side > 2 * padding), sides),
        )
        check_fields(self, "model", together)
        return self


def _are_ints(values, least):
    return isinstance(values, tuple) and all(type(value) is int and value >= least for value in values)


def _are_stages(stages):
    fits = isinstance(stages, tuple) and len(stages) > 0 and all(_are_ints(kernels, 1) for kernels in stages)
    return fits and len(stages[0]) > 0 and len(set(map(len, stages))) == 1


def _ints(count, least):
    """Rule for tuples with an int of at least `least` for each of `count` stages."""
    expected = f"a tuple of {count} ints of at least {least}, one for each stage of kernel_sizes"
    return expected, lambda values: _are_ints(values, least) and len(values) == count


def _numbers_up_to(count):
    """Rule for tuples of different numbers of stages."""

    def fits(values):
        return _are_ints(values, 1) and len(set(values)) == len(values) and max(values, default=1) <= count

    return f"a tuple of different numbers of stages, 1 to {count}", fits
