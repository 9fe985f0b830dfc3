"""The written-out gradients of convolutions and of weight norm are those of TensorFlow's own ops."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.convolution import convolution
from nvae_tf.layers.kernels import normalize_kernel


def _gradients(function, sources, weights):
    with tf.GradientTape() as tape:
        tape.watch(sources)
        value = tf.reduce_sum(function(*sources) * weights)
    return tape.gradient(value, sources)


def _normal(*shape, seed):
    return tf.random.stateless_normal(shape, (seed, 0))


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("in_channels, filters", [(3, 5), (6, 2)])
def test_output_and_gradients_are_those_of_conv2d(size, in_channels, filters):
    inputs, kernel = _normal(2, 5, 7, in_channels, seed=1), _normal(size, size, in_channels, filters, seed=2)
    weights = _normal(2, 5, 7, filters, seed=3)

    def native(x, k):
        return tf.nn.conv2d(x, k, 1, "SAME")

    np.testing.assert_allclose(convolution(inputs, kernel), native(inputs, kernel), atol=1e-5)
    ours = _gradients(convolution, [inputs, kernel], weights)
    theirs = _gradients(native, [inputs, kernel], weights)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_gradient_with_an_unknown_batch_size():
    kernel = _normal(3, 3, 2, 4, seed=2)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 2])])
    def gradient(inputs):
        return _gradients(convolution, [inputs, kernel], tf.ones([4]))

    for batch in (1, 3):
        inputs = _normal(batch, 4, 4, 2, seed=1)
        theirs = _gradients(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), [inputs, kernel], tf.ones([4]))
        for one, other in zip(gradient(inputs), theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def _plain_normalize(kernel, log_norm):
    norm = tf.sqrt(tf.reduce_sum(tf.square(kernel), axis=(-4, -3, -2)))
    factor = tf.exp(log_norm) / (norm + 1e-5)
    return kernel * factor[..., tf.newaxis, tf.newaxis, tf.newaxis, :]


@pytest.mark.parametrize("stacked", [(), (3,)])
def test_weight_norm_and_its_gradient_follow_the_formula(stacked):
    kernel, log_norm = _normal(*stacked, 3, 3, 2, 4, seed=1), _normal(*stacked, 4, seed=2)
    weights = _normal(*stacked, 3, 3, 2, 4, seed=3)
    np.testing.assert_allclose(normalize_kernel(kernel, log_norm), _plain_normalize(kernel, log_norm), rtol=1e-5)
    ours = _gradients(normalize_kernel, [kernel, log_norm], weights)
    theirs = _gradients(_plain_normalize, [kernel, log_norm], weights)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_weight_norm_of_a_zero_kernel_has_a_finite_gradient():
    kernel, log_norm = tf.zeros([3, 3, 2, 4]), tf.zeros([4])
    for gradient in _gradients(normalize_kernel, [kernel, log_norm], tf.ones([3, 3, 2, 4])):
        assert np.all(np.isfinite(gradient))
