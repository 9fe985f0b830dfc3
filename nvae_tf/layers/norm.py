"""Batch normalisation as the original computes it, and swish."""

import keras
import tensorflow as tf

_EPSILON = 1e-5
_MOMENTUM = 0.95


@tf.custom_gradient
def swish(x):
    """x * sigmoid(x), its gradient written so that few passes over memory are needed."""
    gate = tf.sigmoid(x)

    def gradient(upstream):
        # d/dx = gate + x * gate * (1 - gate); SigmoidGrad does the second product in one op.
        return tf.raw_ops.SigmoidGrad(y=gate, dy=upstream * x) + upstream * gate

    return x * gate, gradient


@keras.saving.register_keras_serializable(package="nvae_tf")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation over B, H and W: eps 1e-5, the running values keep 95% a step.

    The running variance follows the unbiased batch variance, n / (n - 1); normalisation uses the biased one.

    Args:
        count_factor: how many times each value will be repeated by a later nearest upsampling that was moved behind
            this layer; n counts the repeated values. Default 1.

    Input and output: [B, H, W, C].
    """

    def __init__(self, count_factor=1, **kwargs):
        super().__init__(**kwargs)
        self.count_factor = count_factor

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", autocast=False)
        self.moving_mean = self.add_weight(
            shape=shape, initializer="zeros", name="moving_mean", trainable=False, autocast=False
        )
        self.moving_variance = self.add_weight(
            shape=shape, initializer="ones", name="moving_variance", trainable=False, autocast=False
        )

    def call(self, inputs, training=False):
        mean, variance = (tf.convert_to_tensor(v) for v in (self.moving_mean, self.moving_variance))
        if not training:
            return self._normalize(inputs, mean, variance, exponential_avg_factor=1.0, is_training=False).y
        # Batch norm does not see a shift of its input. The CPU kernel adds up all values in one running sum, whose
        # rounding grows with the mean and with the number of values: without the mean it keeps its digits.
        shift = tf.stop_gradient(tf.reduce_mean(tf.reduce_mean(inputs, axis=(1, 2)), axis=0))
        # The kernel updates the running statistics itself, with the unbiased variance.
        outputs = self._normalize(
            inputs - shift, mean - shift, variance, exponential_avg_factor=1.0 - _MOMENTUM, is_training=True
        )
        self.moving_mean.assign(outputs.batch_mean + shift)
        self.moving_variance.assign(self._recount(inputs, variance, outputs.batch_variance))
        return outputs.y

    def _normalize(self, inputs, mean, variance, **kwargs):
        scale, offset = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=_EPSILON, **kwargs
        )

    def _recount(self, inputs, old, new):
        if self.count_factor == 1:
            return new
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        total = count * self.count_factor
        correction = (total / (total - 1.0)) * ((count - 1.0) / count)
        kept = _MOMENTUM * old
        return kept + (new - kept) * correction
