"""Configuration of a VQ-VAE-2."""

import dataclasses

from nvae_tf.config.train import STAGES
from nvae_tf.config.validation import BELOW_ONE, NOT_NEGATIVE, POSITIVE, at_least, check_fields, of_family, one_of

_LIKELIHOODS = ("bernoulli", "logistic_mixture", "normal")


@dataclasses.dataclass(slots=True)
class VQVAE2Config:
    """The architecture of a VQ-VAE-2 (Razavi et al. 2019, arXiv 1906.00446); the defaults are the widths for ImageNet.

    Attributes:
        family: `"vqvae2"`.
        image_height, image_width: size of the images the model sees (padding included). Defaults 32.
        image_channels: 1 for grey, 3 for RGB; any number works. Default 3.
        likelihood: `"logistic_mixture"`; `"bernoulli"`; or `"normal"`, with the scale `sigma`, which makes training
            minimise the squared error as published, but is a density whose nats do not compare. Default
            `"logistic_mixture"`.
        padding: pixels on every side that were added to the data and do not count in the likelihood. Default 0.
        bit_depth: bits per image value. Default 8.
        num_mixtures: components of the logistic mixture. Default 10.
        num_levels: 2 or 3 maps of codes, each of half the size of the next. Default 2.
        bottom_stride: factor between the sizes of the image and of the finest map: 2, 4 or 8. Default 4.
        channels: width of the encoders and decoders, even. Default 128.
        residual_channels: channels between the two convolutions of their residual blocks. Default 32.
        residual_blocks: residual blocks in each encoder and decoder. Default 2.
        code_size: size of the vectors that are quantised. Default 64.
        num_codes: size of each codebook. Default 512.
        commitment: weight of the commitment term relative to a mean squared error. Default 0.25.
        sigma: root mean squared error to be expected of images in [-1, 1]. It turns `commitment` into nats, and is the
            scale of the likelihood `"normal"`. Default 0.1.
        prior_channels, prior_residual_channels: widths of the priors and of their residual blocks; the first a multiple
            of 16. Defaults 256.
        prior_kernel_size: side of the causal convolutions, odd. Default 5.
        prior_blocks, prior_residual_blocks: blocks of each prior, and residual blocks in each. Defaults 4.
        prior_output_blocks: residual blocks before the logits of each prior. Default 0.
        condition_channels, condition_blocks: width and residual blocks of the network through which a prior sees the
            next coarser codes. Defaults 256, 3.
        prior_dropout: dropout rate of the priors. Default 0.1.
    """

    family: str = "vqvae2"
    image_height: int = 32
    image_width: int = 32
    image_channels: int = 3
    likelihood: str = "logistic_mixture"
    padding: int = 0
    bit_depth: int = 8
    num_mixtures: int = 10
    num_levels: int = 2
    bottom_stride: int = 4
    channels: int = 128
    residual_channels: int = 32
    residual_blocks: int = 2
    code_size: int = 64
    num_codes: int = 512
    commitment: float = 0.25
    sigma: float = 0.1
    prior_channels: int = 256
    prior_residual_channels: int = 256
    prior_kernel_size: int = 5
    prior_blocks: int = 4
    prior_residual_blocks: int = 4
    prior_output_blocks: int = 0
    condition_channels: int = 256
    condition_blocks: int = 3
    prior_dropout: float = 0.1

    stages = STAGES  # values of train.stage; only "joint" for a model without this attribute
    normal_latents = False  # a model without this attribute has latents with a Normal posterior

    @property
    def objective(self):
        """What training minimises, in words."""
        return "−log p(x | z) − log p(codes), and the commitment to the codes"

    @property
    def latent_shapes(self):
        """(h, w, 1) of each map of codes, coarsest first."""
        strides = [self.bottom_stride * 2**level for level in reversed(range(self.num_levels))]
        return [(self.image_height // stride, self.image_width // stride, 1) for stride in strides]

    @property
    def latent_levels(self):
        """Number of each map of codes, 0 for the coarsest."""
        return list(range(self.num_levels))

    def validate(self):
        """Raises `ConfigError` if no model can be built from this configuration; returns self."""
        even = ("an even number of at least 2", lambda value: value >= 2 and value % 2 == 0)
        rules = (
            (of_family("vqvae2"), ("family",)),
            (one_of(_LIKELIHOODS), ("likelihood",)),
            (one_of((2, 3)), ("num_levels",)),
            (one_of((2, 4, 8)), ("bottom_stride",)),
            (("1 to 8", range(1, 9).__contains__), ("bit_depth",)),
            (at_least(0), ("padding", "residual_blocks", "prior_output_blocks", "condition_blocks")),
            (at_least(1), ("image_height", "image_width", "image_channels", "num_mixtures")),
            (at_least(1), ("residual_channels", "code_size", "num_codes", "prior_residual_channels")),
            (at_least(1), ("prior_blocks", "prior_residual_blocks", "condition_channels")),
            (even, ("channels",)),
            (("a positive multiple of 16", lambda value: value > 0 and value % 16 == 0), ("prior_channels",)),
            (("an odd number of at least 3", lambda value: value >= 3 and value % 2 == 1), ("prior_kernel_size",)),
            (NOT_NEGATIVE, ("commitment",)),
            (POSITIVE, ("sigma",)),
            (BELOW_ONE, ("prior_dropout",)),
        )
        check_fields(self, "model", rules)
        factor, padding = self.bottom_stride * 2 ** (self.num_levels - 1), self.padding
        sizes = (
            (f"a multiple of {factor} (bottom_stride * 2 ** (num_levels - 1))", lambda size: size % factor == 0),
            (f"more than twice the padding of {padding}", lambda size: size > 2 * padding),
        )
        check_fields(self, "model", [(rule, ("image_height", "image_width")) for rule in sizes])
        return self
