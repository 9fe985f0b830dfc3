"""Dense convolutions at stride 1 with gradients that are fast on CPUs.

TensorFlow's CPU kernels for the gradients of a convolution, that of the input above all, are several times slower
than its forward kernel on the small, wide feature maps of a deep hierarchy. The same numbers come from forward
convolutions and matrix products. On GPUs the native gradients are the fast ones and are used.
"""

import tensorflow as tf


@tf.custom_gradient
def _pointwise(inputs, kernel):
    in_channels, filters = kernel.shape[2:]

    def gradient(upstream):
        rows = tf.reshape(upstream, [-1, filters])
        matrix = tf.reshape(kernel, [in_channels, filters])
        input_gradient = tf.reshape(tf.matmul(rows, matrix, transpose_b=True), tf.shape(inputs))
        kernel_gradient = tf.matmul(tf.reshape(inputs, [-1, in_channels]), rows, transpose_a=True)
        return input_gradient, tf.reshape(kernel_gradient, [1, 1, in_channels, filters])

    return tf.nn.conv2d(inputs, kernel, 1, "VALID"), gradient


@tf.custom_gradient
def _spatial(inputs, kernel):
    pad = kernel.shape[0] // 2
    padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]

    def gradient(upstream):
        # Input: the correlation with the flipped kernel. Kernel: the correlation of inputs and upstream gradient,
        # with the batch in the place of the channels.
        flipped = tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2))
        input_gradient = tf.nn.conv2d(upstream, flipped, 1, padding)
        images = tf.transpose(inputs, (3, 1, 2, 0))  # [in, H, W, B]
        filters = tf.transpose(upstream, (1, 2, 0, 3))  # [H, W, B, out]
        kernel_gradient = tf.transpose(tf.nn.conv2d(images, filters, 1, padding), (1, 2, 0, 3))
        return input_gradient, kernel_gradient

    return tf.nn.conv2d(inputs, kernel, 1, padding), gradient


def convolution(inputs, kernel):
    """Convolution at stride 1 with symmetric padding.

    Args:
        inputs: [B, H, W, in].
        kernel: [k, k, in, out], k odd.

    Returns:
        [B, H, W, out].
    """
    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    if tf.config.list_logical_devices("GPU"):
        return tf.nn.conv2d(inputs, kernel, 1, "SAME")
    return _pointwise(inputs, kernel) if kernel.shape[0] == 1 else _spatial(inputs, kernel)
