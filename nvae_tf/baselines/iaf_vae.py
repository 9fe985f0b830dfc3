"""IAF-VAE: a ResNet VAE with inverse autoregressive flow (Kingma et al. 2016, arXiv 1606.04934).

It computes what the authors' program computes, including what the paper does not say: the residual scale of 0.1, the
sums of log standard deviations and contexts, one order for all masks, Adamax without bias correction.
"""

import keras
import tensorflow as tf

from nvae_tf.baselines.iaf_layer import LatentLayer
from nvae_tf.baselines.weight_norm import NormConv2D, NormConv2DTranspose
from nvae_tf.layers.kernels import COMPUTE_DTYPE
from nvae_tf.models.image_model import ImageModel, batch_size, for_rows
from nvae_tf.models.noise import check_per_group
from nvae_tf.models.output import ModelOutput
from nvae_tf.objectives.kl import free_bits_kl


@keras.saving.register_keras_serializable("nvae_tf")
class IAFVAE(ImageModel):
    """Bidirectional ResNet VAE whose posteriors may have a context-conditioned inverse autoregressive flow.

    Args:
        config: `IAFVAEConfig`, or a dict of its fields.

    Input: images [B, H, W, C], float32 in [0, 1]. Output: `ModelOutput`.

    Attributes:
        latent_layers: the `LatentLayer`s, in the order of the bottom-up pass.

    Raises:
        ConfigError: no model can be built from the configuration; the message says what is expected.
    """

    data_dependent = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.x_enc = NormConv2D(config.channels, 5, "iaf_vae", strides=2, name="x_enc")
        self.latent_layers = tuple(
            LatentLayer(
                config.channels,
                config.latent_channels,
                config.iaf,
                resamples=level > 0 and index == 0,
                name=f"layer_{level}_{index}",
            )
            for level in range(config.num_levels)
            for index in range(config.layers_per_level)
        )
        self.x_dec = NormConv2DTranspose(config.image_channels, 5, "iaf_vae", name="x_dec")
        self.build()

    def build(self, input_shape=None):
        if self.built:
            return
        config = self.model_config
        self.x_enc.build((None, config.image_height, config.image_width, config.image_channels))
        self.h_top = self.add_weight(shape=(config.channels,), initializer="zeros", name="h_top")
        for layer, (_, height, width, _) in zip(self.latent_layers, self.noise_shapes(None)[::-1], strict=True):
            layer.build((None, height, width, config.channels))
        self.x_dec.build((None, config.image_height // 2, config.image_width // 2, config.channels))
        if config.likelihood == "discretized_logistic":
            self.dec_log_stdv = self.add_weight(shape=(), initializer="zeros", name="dec_log_stdv")
        self.built = True

    def encode(self, images, training=False):
        """Features of images: a list of one tensor [B, h, w, C] for each layer, in generation order.

        Args:
            images: [B, H, W, C] in [0, 1], taken as levels of the bit depth.
            training: not used.
        """
        images = self._check_images(images)
        num_levels = 2**self.model_config.bit_depth
        levels = tf.round(images * (num_levels - 1))
        centred = tf.clip_by_value((levels + 0.5) / num_levels, 0.0, 1.0) - 0.5
        state = self.x_enc(tf.cast(centred, COMPUTE_DTYPE.get()))
        features = []
        for layer in self.latent_layers:
            state, feature = layer.up(state)
            features.append(feature)
        return features[::-1]

    def infer(self, features, noise, training=False):
        """Draws latents from the posteriors and decodes them.

        Args:
            features: result of `encode`.
            noise: standard normals [B, h, w, latent_channels] in generation order.
            training: not used.

        Returns:
            `ModelOutput`. The KL is log q - log p at the sample, with or without a flow.
        """
        noise = check_per_group("noise", noise, self.noise_shapes(batch_size(features[0])))
        state, groups = self.top(batch_size(features[0])), []
        for layer, feature, eps in zip(self.latent_layers[::-1], features, noise, strict=True):
            state, terms = layer.infer(state, feature, eps)
            groups.append(terms)
        return ModelOutput.of_groups(self._likelihood_params(state), groups)

    def _generate(self, noise, temperatures, training):
        state = self.top(tf.shape(noise[0])[0])
        for layer, eps, temperature in zip(self.latent_layers[::-1], noise, temperatures, strict=True):
            state = layer.generate(state, eps, for_rows(temperature))
        return self._likelihood_params(state)

    def _decode(self, latents):
        state = self.top(batch_size(latents[0]))
        for layer, latent in zip(self.latent_layers[::-1], latents, strict=True):
            state = layer.decode(state, latent)
        return self._likelihood_params(state)

    def top(self, size):
        """The top-down state [size, h, w, channels] before the first layer, in the type `COMPUTE_DTYPE`."""
        _, height, width, _ = self.noise_shapes(size)[0]
        start = tf.cast(tf.convert_to_tensor(self.h_top), COMPUTE_DTYPE.get())
        return tf.broadcast_to(start, [size, height, width, self.model_config.channels])

    def _likelihood_params(self, state):
        params = tf.cast(self.x_dec(tf.nn.elu(state)), tf.float32)
        if self.model_config.likelihood == "bernoulli":
            return params
        log_scale = tf.broadcast_to(tf.convert_to_tensor(self.dec_log_stdv), [*tf.unstack(tf.shape(params)[:-1]), 1])
        return tf.concat([params, log_scale], axis=-1)

    def weighted_kl(self, output, kl_weight):
        """KL [B] that training adds to the reconstruction, nats, and the coefficient of each layer's KL [G].

        With `free_bits` it is that of `free_bits_kl`, equal for all rows, and the coefficients are shares of the
        channels; without, it is the sum of the layers' KL.
        """
        least = self.model_config.free_bits
        if not least:
            return kl_weight * tf.reduce_sum(output.kl_per_group, axis=1), kl_weight * tf.ones([len(output.groups)])
        kl_per_group, shares = free_bits_kl(output.kl_per_channel, least)
        rows = tf.fill([tf.shape(output.kl_per_channel)[0]], tf.reduce_sum(kl_per_group))
        return kl_weight * rows, kl_weight * shares
