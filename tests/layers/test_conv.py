import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D, convolution
from nvae_tf.layers.kernels import ARITHMETIC_DTYPE, INITIALIZING_FROM_DATA, setting


def _images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _randomize(layer, seed=1):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))


def _convolution(x, kernel, strides, dilation, groups):
    """Zero-padded cross-correlation in float64, tap by tap."""
    size, height, width = kernel.shape[0], x.shape[1], x.shape[2]
    pad = size // 2 * dilation
    padded = np.pad(x.astype(np.float64), [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    outputs = 0.0
    for row in range(size):
        for column in range(size):
            top, left = row * dilation, column * dilation
            taps = padded[:, top : top + height : strides, left : left + width : strides]
            parts = zip(np.split(taps, groups, -1), np.split(kernel[row, column], groups, -1), strict=True)
            outputs = outputs + np.concatenate([part @ weights for part, weights in parts], axis=-1)
    return outputs


def _effective(layer):
    kernel = np.asarray(layer.kernel, np.float64)
    if not layer.weight_norm:
        return kernel
    norm = np.sqrt((kernel**2).sum((0, 1, 2)))
    return np.exp(np.asarray(layer.log_norm)) * kernel / (norm + 1e-5)


@pytest.mark.parametrize("weight_norm", [True, False])
@pytest.mark.parametrize(
    "size, strides, dilation, groups",
    [
        (1, 1, 1, 1),
        (1, 2, 1, 1),
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (5, 2, 1, 1),
        (3, 1, 2, 1),
        (3, 2, 2, 1),
        (3, 1, 1, 2),
        (5, 2, 1, 2),
        (5, 1, 1, "depthwise"),
        (5, 2, 1, "depthwise"),
        (11, 1, 1, "depthwise"),
    ],
)
def test_convolution_agrees_with_explicit_sums(size, strides, dilation, groups, weight_norm):
    filters = 4 if groups == "depthwise" else 6
    layer = Conv2D(filters, size, strides, dilation, groups, weight_norm=weight_norm)
    x = _images((2, 6, 8, 4))
    layer.build(x.shape)
    _randomize(layer)
    num_groups = 4 if groups == "depthwise" else groups
    expected = _convolution(x, _effective(layer), strides, dilation, num_groups) + np.asarray(layer.bias)
    outputs = layer(x)
    assert outputs.shape == (2, 6 // strides, 8 // strides, filters)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def _gradients(function, inputs, kernel, weights):
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel])
        value = tf.reduce_sum(function(inputs, kernel) * weights)
    return tape.gradient(value, [inputs, kernel])


def _native(inputs, kernel):
    return tf.nn.conv2d(inputs, kernel, 1, "SAME")


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("in_channels, filters", [(3, 5), (6, 2)])
def test_output_and_gradients_are_those_of_conv2d(size, in_channels, filters):
    inputs, kernel = _images((2, 5, 7, in_channels), 1), tf.constant(_images((size, size, in_channels, filters), 2))
    weights = _images((2, 5, 7, filters), 3)
    inputs = tf.constant(inputs)
    np.testing.assert_allclose(convolution(inputs, kernel), _native(inputs, kernel), atol=1e-4)

    # The batch size is unknown, as in a graph that serves batches of any size.
    @tf.function(input_signature=[tf.TensorSpec([None, 5, 7, in_channels])])
    def gradients(inputs):
        return _gradients(convolution, inputs, kernel, weights)

    for one, other in zip(gradients(inputs), _gradients(_native, inputs, kernel, weights), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("groups, fan_in", [(1, 8 * 9), (4, 2 * 9), ("depthwise", 9)])
def test_initial_values(groups, fan_in):
    keras.utils.set_random_seed(0)
    layer = Conv2D(8 if groups == "depthwise" else 64, 3, groups=groups, log_norm_offset=-2.303)
    layer.build((None, 4, 4, 8))
    bound = fan_in**-0.5
    for values in (np.asarray(layer.kernel), np.asarray(layer.bias)):
        assert np.abs(values).max() <= bound
        # The extremes of n uniform values lie within a few n-ths of the bounds.
        slack = 8.0 / values.size
        assert values.max() > bound * (1 - 2 * slack) and values.min() < -bound * (1 - 2 * slack)
    norm = np.sqrt((np.asarray(layer.kernel) ** 2).sum((0, 1, 2)))
    np.testing.assert_allclose(layer.log_norm, np.log(norm + 1e-2) - 2.303, rtol=1e-5, atol=1e-6)


def test_data_dependent_initialisation_gives_mean_0_and_standard_deviation_a_fifth():
    layer = Conv2D(6, 3, strides=2, data_dependent=True)
    x = 3.0 * _images((8, 8, 8, 4)) + 1.0
    layer.build(x.shape)
    before = layer.log_norm.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.log_norm, before)
    with setting(INITIALIZING_FROM_DATA, True):
        initial = layer(x).numpy()
    np.testing.assert_allclose(initial.mean((0, 1, 2)), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(initial.std((0, 1, 2)), np.full(6, 0.2), rtol=1e-4)
    np.testing.assert_allclose(layer(x), initial, rtol=1e-5, atol=1e-6)


def test_arithmetic_dtype_rounds_dense_convolutions_only():
    x = _images((2, 4, 4, 4))
    dense, depthwise = Conv2D(4, 3), Conv2D(4, 3, groups="depthwise")
    for layer in (dense, depthwise):
        layer.build(x.shape)
    exact = [layer(x).numpy() for layer in (dense, depthwise)]
    with setting(ARITHMETIC_DTYPE, "bfloat16"):
        rounded = [layer(x) for layer in (dense, depthwise)]
    assert rounded[0].dtype == rounded[1].dtype == tf.float32
    difference = np.abs(rounded[0].numpy() - exact[0]).max()
    assert 1e-6 < difference < 0.05
    np.testing.assert_array_equal(rounded[1], exact[1])
