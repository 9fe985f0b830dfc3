"""NVAE: the whole model (Vahdat & Kautz, arXiv 2007.03898)."""

import typing

import keras
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.config import config_to_dict, model_config_from_dict
from nvae_tf.distributions import image_likelihood
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import kernel_stacks
from nvae_tf.layers.layer import without_values
from nvae_tf.layers.norm import BatchNorm
from nvae_tf.layers.squeeze_excite import SqueezeExcite
from nvae_tf.models.decoder import Decoder
from nvae_tf.models.encoder import Encoder
from nvae_tf.models.noise import check_per_group, draw_noise, group_temperatures, to_float32


class NVAEOutput(typing.NamedTuple):
    """Outputs of the model for a batch of images.

    Attributes:
        likelihood_params: parameters of p(x | z) [B, H, W, P]; see `NVAE.likelihood`.
        kl_per_group: KL of each group [B, G], nats, in generation order.
        log_q: log q(z | x) of the sample, summed over the groups [B], nats.
        log_p: log p(z) of the sample, summed over the groups [B], nats.
        kl_per_channel: KL of each latent channel [B, G, latent_channels], nats.
        groups: `LatentTerms` of each group, in generation order.
    """

    likelihood_params: tf.Tensor
    kl_per_group: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    kl_per_channel: tf.Tensor
    groups: list

    @property
    def latents(self):
        """z of each group after its flows, [B, h, w, latent_channels] each."""
        return [group.latent for group in self.groups]


class NVAE(keras.Model):
    """Deep hierarchical variational autoencoder for images.

    Args:
        config: `ModelConfig`, or a dict of its fields.

    Input: images [B, H, W, C], float32 in [0, 1]. Output: `NVAEOutput`.

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

    def __init__(self, config, **kwargs):
        # Keras would cast kernels of a 16-bit type to float32.
        super().__init__(autocast=False, **kwargs)
        if isinstance(config, dict):
            config = model_config_from_dict(config)
        self.model_config = config.validate()
        self.config = None
        self.averaged = False
        self.restored_step = None
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

    def get_config(self):
        return {"config": config_to_dict(self.model_config), "name": self.name}

    @property
    def groups(self):
        """The `LatentGroup`s, in generation order."""
        return self.decoder.groups

    def noise_shapes(self, batch_size):
        """Shape [B, h, w, latent_channels] of each group's noise, in generation order."""
        return hierarchy.noise_shapes(self.model_config, batch_size)

    def call(self, images, noise=None, seed=None, training=False):
        """Encodes images and decodes posterior samples.

        Args:
            images: [B, H, W, C] in [0, 1].
            noise: standard normals [B, h, w, latent_channels] in generation order; drawn if None. Default None.
            seed: int or int tensor [2] that determines the draw; None for a fresh one. Default None.
            training: whether to use batch statistics and update the running ones. Default False.

        Returns:
            `NVAEOutput`.
        """
        features = self.encode(images, training)
        return self.infer(features, self._noise(noise, _batch_size(features[0]), seed), training)

    def encode(self, images, training=False):
        """Features of images: a list of one tensor [B, h, w, C] for each group, in generation order.

        Args:
            images: [B, H, W, C] in [0, 1].
            training: see `call`.
        """
        images, config = to_float32("images", images), self.model_config
        expected = (config.image_height, config.image_width, config.image_channels)
        if images.shape.rank != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images: expected shape [B, {', '.join(map(str, expected))}]. Received: {images.shape}")
        return self.encoder(images, training=training)

    def infer(self, features, noise, training=False):
        """Draws latents from the posteriors and decodes them.

        Args:
            features: result of `encode`.
            noise: standard normals [B, h, w, latent_channels] in generation order.
            training: see `call`.

        Returns:
            `NVAEOutput`.
        """
        noise = check_per_group("noise", noise, self.noise_shapes(_batch_size(features[0])))
        params, groups = self.decoder.infer(features, noise, training=training)
        kl_per_channel = tf.stack([group.kl_per_channel for group in groups], axis=1)
        return NVAEOutput(
            likelihood_params=params,
            kl_per_group=tf.reduce_sum(kl_per_channel, axis=2),
            log_q=tf.add_n([group.log_q for group in groups]),
            log_p=tf.add_n([group.log_p for group in groups]),
            kl_per_channel=kl_per_channel,
            groups=groups,
        )

    def generate(self, noise=None, batch_size=None, temperature=1.0, seed=None, training=False):
        """Draws latents from the prior and decodes them.

        Args:
            noise: standard normals in generation order; drawn if None. Default None.
            batch_size: number of images to draw, required if `noise` is None.
            temperature: factor of every prior's scale, > 0: a number, a tensor [B], or a list of either, one for each
                scale or each group, coarsest first. Default 1.
            seed: int or int tensor [2] that determines the draw; None for a fresh one. Default None.
            training: whether to use batch statistics and update the running ones, as in the readjustment of batch
                norm for sampling (paper, appendix A). Default False.

        Returns:
            Likelihood parameters [B, H, W, P].

        Raises:
            ValueError: neither noise nor batch_size is given, a temperature is not positive and finite, or a list has
                another length.
        """
        if noise is None and batch_size is None:
            raise ValueError("generate: expected noise or batch_size. Received: neither")
        # A shape of [B] would broadcast along the channels.
        temperatures = [
            tf.reshape(value, [-1, 1, 1, 1]) if tf.is_tensor(value) and value.shape.rank else value
            for value in group_temperatures(temperature, self.model_config)
        ]
        return self.decoder.generate(self._noise(noise, batch_size, seed), temperatures, training=training)

    def decode(self, latents):
        """Likelihood parameters [B, H, W, P] for given latents.

        Args:
            latents: z of each group [B, h, w, latent_channels] after the flows, in generation order, as in
                `NVAEOutput.latents`.
        """
        return self._decode(latents)[0]

    def prior_noise(self, latents):
        """The noise from which `generate` produces the given latents; arguments as in `decode`.

        It is (z - loc) / scale of the prior of each group, given the groups before it: a list of tensors
        [B, h, w, latent_channels], which are standard normal if the latents are samples from the prior.
        """
        return self._decode(latents)[1]

    def _decode(self, latents):
        batch_size = _batch_size(tf.convert_to_tensor(latents[0])) if len(latents) else 0
        latents = check_per_group("latents", latents, self.noise_shapes(batch_size))
        return self.decoder.decode(latents)

    def _noise(self, noise, batch_size, seed):
        shapes = self.noise_shapes(batch_size)
        return draw_noise(shapes, seed) if noise is None else check_per_group("noise", noise, shapes)

    def likelihood(self, params):
        """Distribution p(x | z) of images [B, H, W, C] in [0, 1], from likelihood parameters [B, H, W, P].

        Its `log_prob` is in nats per image [B] and excludes the padding; `mean()` and `sample(seed)` are images.
        """
        return image_likelihood(self.model_config, params)


def _batch_size(tensor):
    return tensor.shape[0] or tf.shape(tensor)[0]


def shapes_only(config):
    """Builds the `NVAE` of a `ModelConfig` without values in its variables, to count or match its weights."""
    return without_values(lambda: NVAE(config, name="nvae"))
