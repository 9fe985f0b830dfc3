"""Configuration of NVAE's architecture."""

import dataclasses
import typing

from nvae_tf.config.validation import at_least, check_fields, one_of

LIKELIHOODS = ("bernoulli", "logistic_mixture", "normal")
CELL_SETS = (
    "res_mbconv",
    "res_bnswish",
    "res_bnelu",
    "res_elu",
    "mbconv_sep",
    "mbconv_sep11",
    "mbconv_res",
    "mbconv_den",
    "res53_mbconv",
    "res35_mbconv",
    "res55_mbconv",
)


@dataclasses.dataclass(slots=True)
class ModelConfig:
    """The architecture (paper appendix A, table 6).

    Widths are given at full image resolution: they double at each downsampling and halve at each upsampling.

    Attributes:
        family: `"nvae"`; not a field, so that it is absent from the files of runs.
        image_height, image_width: size of the images the model sees (padding included). Defaults 32.
        image_channels: 1 for grey, 3 for RGB; any number works. Default 1.
        likelihood: `"bernoulli"`, `"logistic_mixture"` or `"normal"`. Default `"bernoulli"`.
        padding: pixels on every side that were added to the data and do not count in the likelihood. Default 0.
        bit_depth: bits per image value. Default 8.
        num_mixtures: components of the logistic mixture. Default 10.
        num_scales: spatial scales that carry latents. Default 2.
        groups_per_scale: latent groups at the finest scale. Default 10.
        adaptive_groups: halve the number of groups from each scale to the next coarser one. Default False.
        min_groups_per_scale: minimum number of groups of a scale with `adaptive_groups`. Default 1.
        latent_channels: channels of one z. Default 20.
        encoder_channels, decoder_channels: widths of the towers. Defaults 32.
        preprocess_blocks, preprocess_cells: blocks before the encoder tower, and cells in each. Defaults 2, 3.
        postprocess_blocks, postprocess_cells: blocks after the decoder tower, and cells in each. Defaults 2, 3.
        encoder_cells_per_group, decoder_cells_per_group: cells before each combiner. Defaults 2.
        num_flows: flow steps of each posterior; 0 for none. Default 0.
        cell_set: operations in the cells, one of `CELL_SETS`. Default `"res_mbconv"`.
        squeeze_excite: whether to gate every cell by squeeze-and-excitation. Default True.
        residual_posterior: whether posterior parameters are relative to the prior's (paper section 3.2). Default True.
    """

    family: typing.ClassVar[str] = "nvae"

    image_height: int = 32
    image_width: int = 32
    image_channels: int = 1
    likelihood: str = "bernoulli"
    padding: int = 0
    bit_depth: int = 8
    num_mixtures: int = 10
    num_scales: int = 2
    groups_per_scale: int = 10
    adaptive_groups: bool = False
    min_groups_per_scale: int = 1
    latent_channels: int = 20
    encoder_channels: int = 32
    decoder_channels: int = 32
    preprocess_blocks: int = 2
    preprocess_cells: int = 3
    postprocess_blocks: int = 2
    postprocess_cells: int = 3
    encoder_cells_per_group: int = 2
    decoder_cells_per_group: int = 2
    num_flows: int = 0
    cell_set: str = "res_mbconv"
    squeeze_excite: bool = True
    residual_posterior: bool = True

    @property
    def downsampling(self):
        """Factor between the size of the image and that of the coarsest latents."""
        return 2 ** (self.preprocess_blocks + self.num_scales - 1)

    @property
    def objective(self):
        """What training minimises, in words."""
        return "−ELBO with an annealed, balanced KL, and spectral and batch-norm regularisation"

    def validate(self):
        """Raises `ConfigError` if no model can be built from this configuration; returns self."""
        rules = (
            (at_least(0), ("padding", "preprocess_blocks", "postprocess_blocks", "num_flows")),
            (at_least(0), ("encoder_cells_per_group", "decoder_cells_per_group")),
            (at_least(1), ("image_height", "image_width", "image_channels", "num_mixtures", "num_scales")),
            (at_least(1), ("groups_per_scale", "min_groups_per_scale", "latent_channels")),
            (at_least(1), ("preprocess_cells", "postprocess_cells", "encoder_channels", "decoder_channels")),
            (("1 to 8", range(1, 9).__contains__), ("bit_depth",)),
            (one_of(LIKELIHOODS), ("likelihood",)),
            (one_of(CELL_SETS), ("cell_set",)),
        )
        check_fields(self, "model", rules)
        blocks, factor, padding = self.preprocess_blocks, self.downsampling, self.padding
        ends = f"preprocess_blocks = {blocks}, so that the decoder ends at the image's resolution"
        together = [((ends, lambda value: value == blocks), ("postprocess_blocks",))]
        for name in ("image_height", "image_width"):
            below = getattr(self, name) // factor * factor
            fits = f"{below} or {below + factor}" if below else f"{factor}"
            scales = f"a multiple of {factor} (2 ** (preprocess_blocks + num_scales - 1)); {fits} would fit"
            together += [((scales, lambda size: size % factor == 0), (name,))]
            together += [((f"more than twice the padding of {padding}", lambda size: size > 2 * padding), (name,))]
        if self.cell_set == "mbconv_den":
            divisible = ("a multiple of 8 (mbconv_den uses 8 groups)", lambda width: width % 8 == 0)
            together += [(divisible, ("encoder_channels", "decoder_channels"))]
        check_fields(self, "model", together)
        return self
