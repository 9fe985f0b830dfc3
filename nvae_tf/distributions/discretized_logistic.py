"""Discretised logistic: the likelihood of the IAF-VAE."""

import tensorflow as tf

from nvae_tf.distributions.likelihood import ImageLikelihood

# Added to the mass of every level, so that none has less than -16.1 nats.
_LEAST_MASS = 1e-7


class DiscretizedLogisticLikelihood(ImageLikelihood):
    """Independent discretised logistic of every image value, with one scale for all channels of a pixel.

    The levels u = 0 ... L - 1, L = 2^bit_depth, are bins of width 1 / L on [-1/2, 1/2]. The probability of a level is
    the logistic's mass in its bin, plus 1e-7. As in the original, the masses of the logistic outside of [-1/2, 1/2]
    belong to no level (Kingma et al. 2016, arXiv 1606.04934).

    `mean` is the mean of the logistic, not rounded; samples are levels, where the first and the last collect the
    values beyond them.

    Args:
        params: tensor [B, H, W, C + 1]: C means, clipped to half a bin from the ends of [-1/2, 1/2], where the clip
            stops the gradient; then the log scale.
        bit_depth: bits per image value. Default 8.
        padding: pixels on every side that do not count in `log_prob`. Default 0.
    """

    def __init__(self, params, bit_depth=8, padding=0):
        self._num_levels = 2**bit_depth
        super().__init__(params, params.shape[-1] - 1, padding)
        least = -0.5 + 0.5 / self._num_levels
        self._logistic_mean = tf.clip_by_value(self._params[..., :-1], least, -least)
        self._log_scale = self._params[..., -1:]

    def _log_prob(self, images):
        levels = tf.round(tf.cast(images, tf.float32)[self._window] * (self._num_levels - 1))
        inverse_scale = tf.exp(-self._log_scale[self._window])
        lower = (levels / self._num_levels - 0.5 - self._logistic_mean[self._window]) * inverse_scale
        width = inverse_scale / self._num_levels
        # sigmoid(lower + width) - sigmoid(lower), without a difference of nearly equal numbers.
        mass = -tf.sigmoid(lower + width) * tf.sigmoid(-lower) * tf.math.expm1(-width)
        return tf.reduce_sum(tf.math.log(mass + _LEAST_MASS), axis=[-3, -2, -1])

    def _mean(self):
        return self._logistic_mean + 0.5

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], tf.shape(self._logistic_mean)], axis=0)
        uniform = tf.random.stateless_uniform(shape, self._stateless_seed(seed), minval=1e-7)
        logistic = tf.math.log(uniform) - tf.math.log1p(-uniform)
        values = self._logistic_mean + tf.exp(self._log_scale) * logistic
        levels = tf.floor((values + 0.5) * self._num_levels)
        return tf.clip_by_value(levels, 0.0, self._num_levels - 1.0) / (self._num_levels - 1.0)
