"""Configuration of the IAF-VAE."""

import dataclasses

from nvae_tf.config.validation import NOT_NEGATIVE, at_least, check_fields, of_family, one_of

IAF_VAE_LIKELIHOODS = ("discretized_logistic", "bernoulli")


@dataclasses.dataclass(slots=True)
class IAFVAEConfig:
    """The architecture of the IAF-VAE (Kingma et al. 2016, arXiv 1606.04934). The defaults are the published model.

    Attributes:
        family: `"iaf_vae"`.
        image_height, image_width: size of the images the model sees (padding included). Defaults 32.
        image_channels: 1 for grey, 3 for RGB; any number works. Default 3.
        likelihood: `"discretized_logistic"` or `"bernoulli"`. Default `"discretized_logistic"`.
        padding: pixels on every side that were added to the data and do not count in the likelihood. Default 0.
        bit_depth: bits per image value. Default 8.
        num_levels: resolutions that carry latents; those of level i have the size of the image divided by 2^(i + 1).
            Default 1.
        layers_per_level: layers of latents at each level. Default 20.
        channels: width of the residual blocks. Default 160.
        latent_channels: channels of the latent of each layer. Default 32.
        iaf: whether the posteriors have a step of inverse autoregressive flow; else they are diagonal normals. Default
            True.
        free_bits: KL in nats, of each channel of each layer, below which the objective does not reward a smaller one; 0
            for the plain objective. Default 0.1.
    """

    family: str = "iaf_vae"
    image_height: int = 32
    image_width: int = 32
    image_channels: int = 3
    likelihood: str = "discretized_logistic"
    padding: int = 0
    bit_depth: int = 8
    num_levels: int = 1
    layers_per_level: int = 20
    channels: int = 160
    latent_channels: int = 32
    iaf: bool = True
    free_bits: float = 0.1

    @property
    def downsampling(self):
        """Factor between the size of the image and that of the coarsest latents."""
        return 2**self.num_levels

    @property
    def objective(self):
        """What training minimises, in words."""
        return f"−ELBO with a KL of at least {self.free_bits:g} nats per channel" if self.free_bits else "−ELBO"

    @property
    def latent_shapes(self):
        """Shape (h, w, latent_channels) of the latent of each layer, in generation order, coarsest first."""
        factors = [2**level for level in range(self.num_levels, 0, -1) for _ in range(self.layers_per_level)]
        return [(self.image_height // one, self.image_width // one, self.latent_channels) for one in factors]

    @property
    def latent_levels(self):
        """Index of the level of each layer, in generation order, 0 for the coarsest."""
        return [level for level in range(self.num_levels) for _ in range(self.layers_per_level)]

    def validate(self):
        """Raises `ConfigError` if no model can be built from this configuration; returns self."""
        rules = (
            (of_family("iaf_vae"), ("family",)),
            (at_least(0), ("padding",)),
            (at_least(1), ("image_height", "image_width", "image_channels")),
            (at_least(1), ("num_levels", "layers_per_level", "channels", "latent_channels")),
            (("1 to 8", range(1, 9).__contains__), ("bit_depth",)),
            (NOT_NEGATIVE, ("free_bits",)),
            (one_of(IAF_VAE_LIKELIHOODS), ("likelihood",)),
        )
        check_fields(self, "model", rules)
        factor, padding, width = self.downsampling, self.padding, self.channels
        sizes = ("image_height", "image_width")
        levels = f"a multiple of {factor} (2 ** num_levels)"
        together = [((levels, lambda size: size % factor == 0), sizes)]
        together += [((f"more than twice the padding of {padding}", lambda size: size > 2 * padding), sizes)]
        if self.iaf:
            divides = f"a divisor or a multiple of channels = {width}, for the masks of the flow"
            together += [((divides, lambda size: 0 in (size % width, width % size)), ("latent_channels",))]
        check_fields(self, "model", together)
        return self
