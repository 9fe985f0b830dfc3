"""NVAE: the whole model (Vahdat & Kautz, arXiv 2007.03898)."""

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import kernel_stacks
from nvae_tf.layers.layer import without_values
from nvae_tf.layers.norm import BatchNorm
from nvae_tf.layers.squeeze_excite import SqueezeExcite
from nvae_tf.models.decoder import Decoder
from nvae_tf.models.encoder import Encoder
from nvae_tf.models.image_model import ImageModel, batch_size, for_rows
from nvae_tf.models.noise import check_per_group
from nvae_tf.models.output import ModelOutput


class NVAE(ImageModel):
    """Deep hierarchical variational autoencoder for images.

    Args:
        config: `ModelConfig`, or a dict of its fields.

    Input: images [B, H, W, C], float32 in [0, 1]. Output: `ModelOutput`.

    Attributes:
        model_config: the `ModelConfig`.
        config: `Config` of the whole run if the model was loaded from one (`nvae_tf.load_run`), else None.
        averaged: whether the weights are the moving average of a run; set by `nvae_tf.load_run`.
        restored_step: step of the checkpoint that `nvae_tf.load_run` restored, else None.
        convolutions: every `Conv2D`, in order of creation.
        batch_norms: every `BatchNorm`.
        kernel_stacks: the `KernelStack`s of the convolutions.

    Activations have the type of the kernels. Everything but training is faster with the folded model,
    `nvae_tf.inference`.

    Example:

        model = NVAE(ModelConfig(image_height=32, image_width=32))
        output = model(images, seed=0)
        nelbo = tf.reduce_sum(output.kl_per_group, 1) - model.likelihood(output.likelihood_params).log_prob(images)
        pictures = model.likelihood(model.generate(batch_size=16, temperature=0.7)).mean()

    Raises:
        ConfigError: no model can be built from the configuration; the message says what is expected.
    """

    folds = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.encoder = Encoder(config, name="encoder")
        self.decoder = Decoder(config, name="decoder")
        self.build()

    def build(self, input_shape=None):
        if self.built:
            return
        config = self.model_config
        self.encoder.build((None, config.image_height, config.image_width, config.image_channels))
        self.decoder.build()
        # tf.train.Checkpoint does not track lists, so cells in lists are saved through these tuples.
        layers = list(self._flatten_layers(include_self=False))
        self.convolutions = tuple(layer for layer in layers if isinstance(layer, Conv2D))
        self.batch_norms = tuple(layer for layer in layers if isinstance(layer, BatchNorm))
        self.squeeze_excites = tuple(layer for layer in layers if isinstance(layer, SqueezeExcite))
        self.kernel_stacks = kernel_stacks(self.convolutions)
        self.built = True

    @property
    def statistics(self):
        """The running statistics of the batch norms."""
        return [v for norm in self.batch_norms for v in (norm.moving_mean, norm.moving_variance)]

    @property
    def data_dependent(self):
        """Whether the first batch determines weights (cell set `res_elu`)."""
        return any(conv.data_dependent for conv in self.convolutions)

    @property
    def groups(self):
        """The `LatentGroup`s, in generation order."""
        return self.decoder.groups

    def encode(self, images, training=False):
        """Features of images: a list of one tensor [B, h, w, C] for each group, in generation order.

        Args:
            images: [B, H, W, C] in [0, 1].
            training: see `call`.
        """
        return self.encoder(self._check_images(images), training=training)

    def infer(self, features, noise, training=False):
        """Draws latents from the posteriors and decodes them.

        Args:
            features: result of `encode`.
            noise: standard normals [B, h, w, latent_channels] in generation order.
            training: see `call`.

        Returns:
            `ModelOutput`.
        """
        noise = check_per_group("noise", noise, self.noise_shapes(batch_size(features[0])))
        params, groups = self.decoder.infer(features, noise, training=training)
        return ModelOutput.of_groups(params, groups)

    def prior_noise(self, latents):
        """The noise from which `generate` produces the given latents; arguments as in `decode`.

        It is (z - loc) / scale of the prior of each group, given the groups before it: a list of tensors
        [B, h, w, latent_channels], which are standard normal if the latents are samples from the prior.
        """
        return self.decoder.decode(self._check_latents(latents))[1]

    def _generate(self, noise, temperatures, training):
        return self.decoder.generate(noise, list(map(for_rows, temperatures)), training=training)

    def _decode(self, latents):
        return self.decoder.decode(latents)[0]


def shapes_only(config):
    """Builds the `NVAE` of a `ModelConfig` without values in its variables, to count or match its weights."""
    return without_values(lambda: NVAE(config, name="nvae"))
