"""The base class of the models: what training, evaluation and the programs use of a model of images."""

import keras
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.config import config_to_dict, model_config_from_dict
from nvae_tf.distributions import image_likelihood
from nvae_tf.models.noise import check_per_group, draw_noise, group_temperatures, to_float32


class ImageModel(keras.Model):
    """A variational autoencoder of images, made from its configuration and built at once.

    A subclass has `encode` and `infer`, as `NVAE` has them, and what `generate` and `decode` call:
    `_generate(noise, temperatures, training)` and `_decode(latents)`. The attributes below
    stand for what a model may lack: a subclass sets those that it has. With a method `weighted_kl`, as
    `nvae_tf.objectives.elbo.training_loss` calls it, a model weighs its KL itself, instead of NVAE's balancing.

    Args:
        config: configuration of the model's family, or a dict of its fields.

    Attributes:
        model_config: the configuration.
        config: `Config` of the whole run if the model was loaded from one (`nvae_tf.load_run`), else None.
        averaged: whether the weights are the moving average of a run; set by `nvae_tf.load_run`.
        restored_step: step of the checkpoint that `nvae_tf.load_run` restored, else None.
        convolutions: every `Conv2D`, in order of creation. Default none.
        batch_norms: every `BatchNorm`. Default none.
        kernel_stacks: the `KernelStack`s of the convolutions, under the spectral term. Default none.
        statistics: the non-trainable variables that a call with `training=True` assigns. Default none.
        data_dependent: whether the first batch of a training determines weights. Default False.
        folds: whether `nvae_tf.inference` can fold it, which exports and paths between latents require. Default False.

    Raises:
        ConfigError: no model can be built from the configuration; the message says what is expected.
    """

    convolutions = batch_norms = kernel_stacks = statistics = ()
    data_dependent = folds = False

    def __init__(self, config, **kwargs):
        # Keras would cast kernels of a 16-bit type to float32.
        super().__init__(autocast=False, **kwargs)
        if isinstance(config, dict):
            config = model_config_from_dict(config)
        self.model_config = config.validate()
        self.config = None
        self.averaged = False
        self.restored_step = None

    def get_config(self):
        return {"config": config_to_dict(self.model_config), "name": self.name}

    def noise_shapes(self, batch_size):
        """Shape [B, ...] of the standard normal noise of each latent, in generation order."""
        return hierarchy.noise_shapes(self.model_config, batch_size)

    def call(self, images, noise=None, seed=None, training=False):
        """Encodes images and decodes posterior samples.

        Args:
            images: [B, H, W, C] in [0, 1].
            noise: standard normals of the shapes `noise_shapes`; drawn if None. Default None.
            seed: int or int tensor [2] that determines the draw; None for a fresh one. Default None.
            training: whether to compute as in training: with batch statistics and dropout, where the model has them,
                and with updates of its `statistics`. Default False.

        Returns:
            `ModelOutput`.
        """
        features = self.encode(images, training)
        return self.infer(features, self._noise(noise, batch_size(features[0]), seed), training)

    def generate(self, noise=None, batch_size=None, temperature=1.0, seed=None, training=False):
        """Draws latents from the prior and decodes them.

        Args:
            noise: standard normals of the shapes `noise_shapes`; drawn if None. Default None.
            batch_size: number of images to draw, required if `noise` is None.
            temperature: factor of every prior's scale, > 0: a number, a tensor [B], or a list of either, one for each
                scale (level or stage) or each latent, coarsest first. VQ-VAE-2 divides the logits of its codes by it.
                Default 1.
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
        temperatures = group_temperatures(temperature, self.model_config)
        return self._generate(self._noise(noise, batch_size, seed), temperatures, training)

    def decode(self, latents):
        """Likelihood parameters [B, H, W, P] for given latents.

        Args:
            latents: each latent, as in `ModelOutput.latents`: after the flows, in generation order.
        """
        return self._decode(self._check_latents(latents))

    def likelihood(self, params):
        """Distribution p(x | z) of images [B, H, W, C] in [0, 1], from likelihood parameters [B, H, W, P].

        Its `log_prob` is in nats per image [B] and excludes the padding; `mean()` and `sample(seed)` are images.
        """
        return image_likelihood(self.model_config, params)

    def _check_latents(self, latents):
        size = batch_size(tf.convert_to_tensor(latents[0])) if len(latents) else 0
        return check_per_group("latents", latents, self.noise_shapes(size))

    def _noise(self, noise, size, seed):
        shapes = self.noise_shapes(size)
        return draw_noise(shapes, seed) if noise is None else check_per_group("noise", noise, shapes)

    def _check_images(self, images):
        """Images as a float32 tensor [B, H, W, C]; ValueError if the model takes another size."""
        images, config = to_float32("images", images), self.model_config
        expected = (config.image_height, config.image_width, config.image_channels)
        if images.shape.rank != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images: expected shape [B, {', '.join(map(str, expected))}]. Received: {images.shape}")
        return images

    def scalars(self):
        """{name: number} of the model's own state, for TensorBoard. Default empty."""
        return {}


def batch_size(tensor):
    """B of a tensor [B, ...]: a number if it is known, else a scalar tensor."""
    return tensor.shape[0] or tf.shape(tensor)[0]


def for_rows(temperature, rank=4):
    """A temperature [B] as [B, 1, ...] of a rank, since [B] would broadcast along the channels; others as they are."""
    if tf.is_tensor(temperature) and temperature.shape.rank:
        return tf.reshape(temperature, [-1] + [1] * (rank - 1))
    return temperature
