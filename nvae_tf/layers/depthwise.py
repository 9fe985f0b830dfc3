"""Depthwise convolution with a filter gradient that is fast on CPUs.

TensorFlow's CPU kernel for the filter gradient is the slowest op of a training step. The same numbers come from a
depthwise convolution of the inputs by the output gradients, with the batch folded into the channels.
"""

import tensorflow as tf


def _fold_batch(x):
    # [N, H, W, C] -> [1, H, W, N * C]
    shape = tf.shape(x)
    return tf.reshape(tf.transpose(x, (1, 2, 0, 3)), [1, shape[1], shape[2], shape[0] * shape[3]])


def _filter_gradient(inputs, upstream, size):
    pad = size // 2
    padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
    filters = tf.transpose(_fold_batch(upstream), (1, 2, 3, 0))  # [H, W, N * C, 1]
    products = tf.nn.depthwise_conv2d(_fold_batch(inputs), filters, (1, 1, 1, 1), padding)
    products = tf.reshape(products, [size, size, -1, inputs.shape[-1]])  # [kh, kw, N, C]
    return tf.reduce_sum(products, axis=2)[..., tf.newaxis]


@tf.custom_gradient
def _stride_one(inputs, kernel):
    size = kernel.shape[0]

    def gradient(upstream):
        # The input gradient is the correlation with the flipped kernel.
        flipped = tf.reverse(kernel, (0, 1))
        input_gradient = tf.nn.depthwise_conv2d(upstream, flipped, (1, 1, 1, 1), "SAME")
        return input_gradient, _filter_gradient(inputs, upstream, size)

    return tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), "SAME"), gradient


def depthwise_convolution(inputs, kernel, strides=1):
    """Depthwise convolution with symmetric padding.

    Args:
        inputs: [B, H, W, C].
        kernel: [k, k, C, 1], k odd.
        strides: 1 or 2. Default 1.

    Returns:
        [B, H / strides, W / strides, C].
    """
    if strides == 1:
        return _stride_one(inputs, kernel)
    pad = kernel.shape[0] // 2
    padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
    return tf.nn.depthwise_conv2d(inputs, kernel, (1, strides, strides, 1), padding)
