"""Normal likelihood of images."""

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.likelihood import ImageLikelihood, to_unit_interval
from nvae_tf.distributions.normal import latent_normal

tfd = tfp.distributions


class NormalLikelihood(ImageLikelihood):
    """Independent Normal distribution of every image value, with parameters clamped as for the latents.

    `log_prob` is the density of the images mapped to [-1, 1]; it is not a probability of 8-bit values and cannot be
    compared with that of the other likelihoods. `mean` and samples are mapped to [0, 1] and clipped.

    Args:
        params: tensor [B, H, W, 2 * C]: C locations, then C log scales, before the clamp; or, with `scale`, the C
            locations [B, H, W, C], which are not clamped.
        padding: pixels on every side that do not count in `log_prob`. Default 0.
        scale: one fixed scale of every value, so that `log_prob` is a squared error in nats; None for those in
            `params`. Default None.

    Raises:
        ValueError: the number of parameters is odd.
    """

    def __init__(self, params, padding=0, scale=None):
        if scale is not None:
            self._normal = tfd.Normal(tf.cast(params, tf.float32), scale)
            num_channels = params.shape[-1]
        elif params.shape[-1] % 2:
            raise ValueError(f"params: expected an even last axis, 2 * C. Received: shape {params.shape}")
        else:
            self._normal = latent_normal(*tf.split(params, 2, axis=-1))
            num_channels = params.shape[-1] // 2
        super().__init__(params, num_channels, padding, tfd.FULLY_REPARAMETERIZED)

    def _log_prob(self, images):
        log_densities = self._normal.log_prob(2.0 * tf.cast(images, tf.float32) - 1.0)
        return tf.reduce_sum(log_densities[self._window], axis=[-3, -2, -1])

    def _mean(self):
        return to_unit_interval(self._normal.loc)

    def _sample_n(self, n, seed=None):
        loc, scale = self._normal.loc, self._normal.scale
        shape = tf.concat([[n], tf.shape(loc)], axis=0)
        return to_unit_interval(loc + scale * tf.random.stateless_normal(shape, self._stateless_seed(seed)))
