"""Batch normalisation as the original computes it, and swish."""

import tensorflow as tf

from nvae_tf.layers.layer import Layer
from nvae_tf.layers.replicas import mean_over_replicas, num_replicas

EPSILON = 1e-5
_MOMENTUM = 0.95


def swish(x):
    """x * sigmoid(x)."""
    # Not `tf.nn.silu`, whose gradient takes more passes over memory than that of the two operations.
    return x * tf.sigmoid(x)


@tf.custom_gradient
def _normalize_over_replicas(inputs, scale, offset, shift):
    """Batch norm over the batches of all replicas, with one exchange forwards and one backwards.

    `shift` [C] is near the mean, so that moments about it are precise, and equal on all replicas. Returns the output,
    the mean [C] and the biased variance [C]; no gradient passes through the last two.
    """
    axes, count = (0, 1, 2), inputs.shape[-1]
    x = tf.cast(inputs, tf.float32) - shift
    moments = tf.concat([tf.reduce_mean(x, axes), tf.reduce_mean(tf.square(x), axes)], axis=0)
    mean, square = tf.split(mean_over_replicas([moments])[0], 2)
    variance = tf.maximum(square - tf.square(mean), 0.0)
    inverse = tf.math.rsqrt(variance + EPSILON)
    mean += shift

    def gradient(upstream, *unused):
        dy = tf.cast(upstream, tf.float32)
        normalized = (tf.cast(inputs, tf.float32) - mean) * inverse
        sums = tf.reduce_sum(dy * normalized, axes), tf.reduce_sum(dy, axes)
        values = tf.cast(tf.size(dy) // count, tf.float32)
        along, level = tf.split(mean_over_replicas([tf.concat(sums, axis=0) / values])[0], 2)
        input_gradient = (dy - level - normalized * along) * (scale * inverse)
        return tf.cast(input_gradient, inputs.dtype), *sums, None

    outputs = (tf.cast(inputs, tf.float32) - mean) * (inverse * scale) + offset
    return (tf.cast(outputs, inputs.dtype), mean, variance), gradient


class BatchNorm(Layer):
    """Batch normalisation over B, H and W with epsilon 1e-5 and momentum 0.95.

    The running variance follows the unbiased batch variance (the biased one times n / (n - 1)); normalisation uses the
    biased one. The batch is that of all replicas together. Statistics are float32 for every type of input.

    Args:
        count_factor: how often each value is repeated by a nearest upsampling that by definition comes before this
            layer but is done after it; n counts the repeated values. Default 1.

    Input and output: [B, H, W, C].
    """

    def __init__(self, count_factor=1, **kwargs):
        super().__init__(**kwargs)
        self.count_factor = count_factor

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        self.moving_mean = self.add_weight(shape=shape, initializer="zeros", name="moving_mean", trainable=False)
        self.moving_variance = self.add_weight(shape=shape, initializer="ones", name="moving_variance", trainable=False)

    def call(self, inputs, training=False):
        mean, variance = (tf.convert_to_tensor(v) for v in (self.moving_mean, self.moving_variance))
        if not training:
            return self._normalize(inputs, mean, variance, exponential_avg_factor=1.0, is_training=False).y
        if num_replicas() > 1:
            return self._synchronized(inputs, mean, variance)
        # A shift of the input changes only the mean. The CPU kernel adds all values in one running sum, whose rounding
        # error grows with the mean and with the number of values; without the mean it stays small.
        values = tf.cast(inputs, tf.float32)
        shift = tf.cast(tf.reduce_mean(tf.reduce_mean(values, axis=(1, 2)), axis=0), inputs.dtype)
        shift = tf.stop_gradient(shift)
        moved = mean - tf.cast(shift, tf.float32)
        # The kernel itself updates the running statistics, with the unbiased variance.
        outputs = self._normalize(
            inputs - shift, moved, variance, exponential_avg_factor=1.0 - _MOMENTUM, is_training=True
        )
        self.moving_mean.assign(outputs.batch_mean + (mean - moved))
        self.moving_variance.assign(self._recount(inputs, variance, outputs.batch_variance))
        return outputs.y

    def _synchronized(self, inputs, old_mean, old_variance):
        scale, offset = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        outputs, mean, variance = _normalize_over_replicas(inputs, scale, offset, tf.stop_gradient(old_mean))
        total = self._count(inputs) * num_replicas() * self.count_factor
        self.moving_mean.assign(_MOMENTUM * old_mean + (1.0 - _MOMENTUM) * mean)
        unbiased = variance * (total / (total - 1.0))
        self.moving_variance.assign(_MOMENTUM * old_variance + (1.0 - _MOMENTUM) * unbiased)
        return outputs

    def _normalize(self, inputs, mean, variance, **kwargs):
        scale, offset = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=EPSILON, **kwargs
        )

    @staticmethod
    def _count(inputs):
        return tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)

    def _recount(self, inputs, old, new):
        if self.count_factor == 1:
            return new
        count = self._count(inputs)
        total = count * self.count_factor
        correction = (total / (total - 1.0)) * ((count - 1.0) / count)
        kept = _MOMENTUM * old
        return kept + (new - kept) * correction
