"""Discretised mixture of logistics: the likelihood of colour images."""

import math

import tensorflow as tf

from nvae_tf.distributions.likelihood import ImageLikelihood, to_unit_interval
from nvae_tf.hierarchy import num_mixture_pieces, sort_mixture_pieces

_MIN_LOG_SCALE = -7.0
# On [-1, 1]: values below this are in the first bin.
_FIRST_BIN = -0.999
# Smallest mass of a bin that the difference of two sigmoids resolves in float32.
_MIN_MASS = 1e-5
_UNIFORM = {"minval": 1e-5, "maxval": 1.0 - 1e-5}


class LogisticMixtureLikelihood(ImageLikelihood):
    """Discretised mixture of logistics, with linear autoregression over a pixel's channels.

    Each pixel belongs to one of the components. In a component, channel c is a logistic whose mean is shifted by the
    earlier channels of the pixel, each times a coefficient in (-1, 1), and whose mass is integrated over bins as wide
    as the levels of the bit depth. Introduced by PixelCNN++ (Salimans et al., 2017, arXiv 1701.05517, section 2) and
    used by NVAE (arXiv 2007.03898, section 4); here for any number of channels.

    `mean` averages the means and coefficients with the weights of the components and then runs the chain over the
    channels; because of the clipping it is not exactly the expectation. Samples are not rounded to the bit depth.

    Args:
        params: tensor [B, H, W, num_mixtures * (1 + 2 * C + C * (C - 1) / 2)], in the order of
            `hierarchy.sort_mixture_pieces`; log scales are clamped to at least -7, coefficients go through tanh.
        num_channels: C, channels of the images.
        num_mixtures: components of the mixture.
        bit_depth: bits per image value. Default 8.
        padding: pixels on every side that do not count in `log_prob`. Default 0.
        last_bin: values above this, on [-1, 1], are in the last bin. At 8 bits the default also puts level 254 (0.992)
            there, as NVAE's original does, so that likelihoods agree with the published ones. Default 0.99.

    Raises:
        ValueError: the last axis of `params` does not fit `num_channels` and `num_mixtures`.
    """

    def __init__(self, params, num_channels, num_mixtures, bit_depth=8, padding=0, last_bin=0.99):
        expected = num_mixtures * num_mixture_pieces(num_channels)
        if params.shape[-1] != expected:
            raise ValueError(
                f"params: expected a last axis of {expected} for num_channels={num_channels} and "
                f"num_mixtures={num_mixtures}. Received: shape {params.shape}"
            )
        self._num_mixtures = num_mixtures
        self._half_bin = 1.0 / (2**bit_depth - 1)
        self._last_bin = last_bin
        super().__init__(params, num_channels, padding)

    def _log_prob(self, images):
        images = 2.0 * tf.cast(images, tf.float32)[self._window] - 1.0  # [B, H, W, C]
        logits, means, log_scales, coefficients = self._split(self._params[self._window])
        for channel, (before, coefficient) in self._pairs(coefficients):
            means[channel] += coefficient * images[..., before, tf.newaxis]
        values = images[..., tf.newaxis]  # [B, H, W, C, 1]
        centered = values - tf.stack(means, axis=-2)  # [B, H, W, C, num_mixtures]
        log_masses = _log_mass(values, centered, tf.stack(log_scales, axis=-2), self._half_bin, self._last_bin)
        log_joint = tf.nn.log_softmax(logits) + tf.reduce_sum(log_masses, axis=-2)  # [B, H, W, num_mixtures]
        return tf.reduce_sum(tf.reduce_logsumexp(log_joint, axis=-1), axis=[-2, -1])

    def level_probabilities(self, channel, images):
        """Probabilities of all levels of one channel, given the channels before it.

        They sum to 1: unlike `log_prob` with the default `last_bin`, they count no level twice.

        Args:
            channel: number of the channel.
            images: [B, H, W, C] in [0, 1], of which only the channels before this one are used.

        Returns:
            [B, h, w, 2^bit_depth], without padding.
        """
        images = 2.0 * tf.cast(images, tf.float32)[self._window] - 1.0
        logits, means, log_scales, coefficients = self._split(self._params[self._window])
        for later, (before, coefficient) in self._pairs(coefficients):
            means[later] += coefficient * images[..., before, tf.newaxis]
        log_weights, last_bin = tf.nn.log_softmax(logits), 1.0 - self._half_bin
        for before in range(channel):
            values = images[..., before, tf.newaxis]
            log_weights += _log_mass(values, values - means[before], log_scales[before], self._half_bin, last_bin)
        weights = tf.unstack(tf.nn.softmax(log_weights)[..., tf.newaxis], axis=-2)
        # Mass below the upper edge of each level but the last, summed one component at a time to save memory.
        edges = -1.0 + self._half_bin * tf.range(1.0, 2.0 / self._half_bin, 2.0)
        components = zip(
            weights, *(tf.unstack(part[channel][..., tf.newaxis], axis=-2) for part in (means, log_scales)), strict=True
        )
        below = tf.add_n(
            [weight * tf.sigmoid((edges - mean) * tf.exp(-log_scale)) for weight, mean, log_scale in components]
        )
        zeros = tf.zeros_like(below[..., :1])
        cumulative = tf.concat([zeros, below, zeros + 1.0], axis=-1)
        return tf.maximum(cumulative[..., 1:] - cumulative[..., :-1], 0.0)

    def _mean(self):
        logits, means, _, coefficients = self._split(self._params)
        weights = tf.nn.softmax(logits)[..., tf.newaxis, :]
        mixed = tf.reduce_sum(weights * tf.stack(means + coefficients, axis=-2), axis=-1)
        mixed = tf.unstack(mixed, axis=-1)
        return self._chain(mixed[: self._num_channels], mixed[self._num_channels :])

    def _sample_n(self, n, seed=None):
        component_seed, value_seed = tf.unstack(tf.random.split(self._stateless_seed(seed), 2))
        shape = [n, *tf.unstack(tf.shape(self._params)[:-1])]
        component = tf.random.stateless_uniform([*shape, self._num_mixtures], component_seed, **_UNIFORM)
        value = tf.random.stateless_uniform([*shape, self._num_channels], value_seed, **_UNIFORM)
        return self.from_uniforms(component, value)

    def from_uniforms(self, component, value):
        """Images [..., B, H, W, C] in [0, 1] as a function of uniform noise in (0, 1).

        Args:
            component: [..., B, H, W, num_mixtures], by which the components are drawn (Gumbel-max).
            value: [..., B, H, W, C], the probabilities below the drawn values.
        """
        logits, means, log_scales, coefficients = self._split(self._params)
        gumbel = -tf.math.log(-tf.math.log(component))
        picked = tf.one_hot(tf.argmax(logits + gumbel, axis=-1), self._num_mixtures)[..., tf.newaxis, :]
        chosen = tf.reduce_sum(picked * tf.stack(means + log_scales + coefficients, axis=-2), axis=-1)
        mean, log_scale, coefficient = tf.split(chosen, [len(means), len(means), len(coefficients)], axis=-1)
        logistic = tf.math.log(value) - tf.math.log1p(-value)
        values = mean + tf.exp(log_scale) * logistic  # [n, B, H, W, C]
        return self._chain(tf.unstack(values, axis=-1), tf.unstack(coefficient, axis=-1))

    def _split(self, params):
        """Logits [B, H, W, num_mixtures], and lists of means, log scales and coefficients of the same shape."""
        pieces = tf.split(params, num_mixture_pieces(self._num_channels), axis=-1)
        logits, means, log_scales, coefficients = sort_mixture_pieces(pieces, self._num_channels)
        log_scales = [tf.maximum(log_scale, _MIN_LOG_SCALE) for log_scale in log_scales]
        return logits, means, log_scales, [tf.tanh(coefficient) for coefficient in coefficients]

    def _pairs(self, coefficients):
        """Yields (channel, (earlier channel, coefficient)) in the order of the coefficients."""
        pairs = [(channel, before) for channel in range(self._num_channels) for before in range(channel)]
        for (channel, before), coefficient in zip(pairs, coefficients, strict=True):
            yield channel, (before, coefficient)

    def _chain(self, values, coefficients):
        """Image in [0, 1] from one value per channel [..., H, W] and one coefficient per pair of channels."""
        values = list(values)
        # The pairs are sorted by channel, so every earlier channel is complete when it is read.
        for channel, (before, coefficient) in self._pairs(coefficients):
            values[channel] += coefficient * tf.clip_by_value(values[before], -1.0, 1.0)
        return to_unit_interval(tf.stack(values, axis=-1))


def _log_mass(values, centered, log_scales, half_bin, last_bin):
    """Log mass [..., num_mixtures], in nats, of the bin of values [..., 1] in [-1, 1] under each logistic.

    Each element takes only one softplus and one log: the branch is chosen before them, and the arguments keep every
    branch finite, so that the gradient of a branch that is not taken cannot be NaN. `centered` is value minus mean.
    """
    inverse_scale = tf.exp(-log_scales)
    distance = inverse_scale * centered
    half_width = inverse_scale * half_bin
    # The logistic is symmetric: below its mean the sigmoids are small and their difference stays precise.
    tail = -tf.abs(distance)
    mass = tf.sigmoid(tail + half_width) - tf.sigmoid(tail - half_width)

    is_first, is_last = values < _FIRST_BIN, values > last_bin
    argument = tf.where(is_first, -distance - half_width, tf.where(is_last, distance - half_width, tail))
    softplus = tf.math.softplus(argument)
    log_density = tail - log_scales - 2.0 * softplus
    # The floor changes only masses whose logarithm is not used, and keeps its gradient finite.
    log_inner = tf.where(
        mass > _MIN_MASS, tf.math.log(tf.maximum(mass, _MIN_MASS)), log_density + math.log(2.0 * half_bin)
    )
    return tf.where(is_first | is_last, -softplus, log_inner)
