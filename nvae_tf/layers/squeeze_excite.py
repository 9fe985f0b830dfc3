"""Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507)."""

import keras
import tensorflow as tf

from nvae_tf.layers.layer import Layer


def gated(x, gate):
    """x [B, H, W, C] times a float32 gate [B, 1, 1, C], in the type of x."""
    return x * gate if x.dtype == tf.float32 else _gated_half(x, gate)


@tf.custom_gradient
def _gated_half(x, gate):
    """`gated` for float16 or bfloat16; the gradient of the gate is a sum over H and W, which may overflow float16."""

    def gradient(upstream):
        product = tf.cast(upstream, tf.float32) * tf.cast(x, tf.float32)
        return upstream * tf.cast(gate, x.dtype), tf.reduce_sum(product, axis=(1, 2), keepdims=True)

    return x * tf.cast(gate, x.dtype), gradient


def _dense(units, fan_in, activation, name):
    uniform = keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer=uniform, bias_initializer=uniform.clone(), name=name
    )


class SqueezeExcite(Layer):
    """Gate in (0, 1) of each channel, computed from the channel means: C -> max(C // 16, 4) -> C.

    The mean and the gate are float32 for every type of input, because a sum over H and W may overflow float16.

    Input: [B, H, W, C]. Output: the gate [B, 1, 1, C]; the caller multiplies by it and can include its own factor.
    """

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(channels // 16, 4)
        self.reduce = _dense(hidden, channels, "relu", "reduce")
        self.expand = _dense(channels, hidden, "sigmoid", "expand")
        self.reduce.build((None, channels))
        self.expand.build((None, hidden))

    def call(self, inputs):
        gate = self.expand(self.reduce(tf.reduce_mean(tf.cast(inputs, tf.float32), axis=(1, 2))))
        return tf.reshape(gate, [-1, 1, 1, gate.shape[1]])
