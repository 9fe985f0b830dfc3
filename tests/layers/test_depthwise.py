import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.depthwise import depthwise_convolution


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("batch, height, width, channels, size", [(2, 6, 4, 3, 5), (3, 2, 2, 4, 11), (1, 4, 6, 1, 3)])
def test_outputs_and_gradients_equal_those_of_tensorflow(batch, height, width, channels, size, strides):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(batch, height, width, channels)), tf.float32)
    kernel = tf.constant(rng.normal(size=(size, size, channels, 1)), tf.float32)
    pad = size // 2
    padded = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, kernel])
        ours = depthwise_convolution(x, kernel, strides)
        # Padding outside the op: its own gradient is tried on every size without it.
        theirs = tf.nn.depthwise_conv2d(tf.pad(x, padded), kernel, (1, strides, strides, 1), "VALID")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    upstream = tf.constant(rng.normal(size=ours.shape), tf.float32)
    expected = tape.gradient(theirs, [x, kernel], upstream)
    for gradient, other in zip(tape.gradient(ours, [x, kernel], upstream), expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-4)


def test_gradients_in_a_graph_of_unknown_batch_size():
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 2, 1)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 2])])
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(tf.square(depthwise_convolution(x, kernel)))
        return tape.gradient(loss, [x, kernel])

    x = tf.constant(np.random.default_rng(1).normal(size=(3, 4, 4, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        loss = tf.reduce_sum(tf.square(tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME")))
    for gradient, other in zip(gradients(x), tape.gradient(loss, [x, kernel]), strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-4)
