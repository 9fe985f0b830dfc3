import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import (
    arithmetic_dtype,
    initializing_from_data,
    kernel_stacks,
    normalize_kernel,
    shared_kernels,
)
from nvae_tf.layers.masked_conv import MaskedConv2D


def _images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _randomize(layer, seed=1):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))


def _convolution(x, kernel, strides, dilation, groups):
    """Cross-correlation tap by tap, zeros on every side, in float64."""
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


def test_normalize_kernel_keeps_the_direction_and_sets_the_norm():
    kernel, log_norm = _images((3, 3, 4, 5)), _images((5,), seed=1)
    effective = normalize_kernel(kernel, log_norm).numpy()
    norms = np.sqrt((effective**2).sum((0, 1, 2)))
    original = np.sqrt((kernel**2).sum((0, 1, 2)))
    np.testing.assert_allclose(norms, np.exp(log_norm) * original / (original + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(effective / norms, kernel / original, rtol=1e-5, atol=1e-7)


def test_a_kernel_of_zeros_stays_finite():
    assert np.all(normalize_kernel(np.zeros((1, 1, 2, 3), np.float32), np.zeros(3, np.float32)).numpy() == 0.0)


@pytest.mark.parametrize("groups, fan_in", [(1, 8 * 9), (4, 2 * 9), ("depthwise", 9)])
def test_initial_values(groups, fan_in):
    keras.utils.set_random_seed(0)
    layer = Conv2D(8 if groups == "depthwise" else 64, 3, groups=groups, log_norm_offset=-2.303)
    layer.build((None, 4, 4, 8))
    bound = fan_in**-0.5
    for values in (np.asarray(layer.kernel), np.asarray(layer.bias)):
        assert np.abs(values).max() <= bound
        # A uniform draw of n values comes within a few n-ths of its bound, on both sides.
        slack = 8.0 / values.size
        assert values.max() > bound * (1 - 2 * slack) and values.min() < -bound * (1 - 2 * slack)
    norm = np.sqrt((np.asarray(layer.kernel) ** 2).sum((0, 1, 2)))
    np.testing.assert_allclose(layer.log_norm, np.log(norm + 1e-2) - 2.303, rtol=1e-5, atol=1e-6)


def test_without_weight_norm_and_bias_the_kernel_is_the_only_variable():
    layer = Conv2D(4, 3, use_bias=False, weight_norm=False)
    layer.build((None, 4, 4, 2))
    assert [variable.name for variable in layer.variables] == ["kernel"]


def _mixed_layers():
    layers = [Conv2D(4, 3), Conv2D(4, 3), Conv2D(4, 3, use_bias=False, weight_norm=False), Conv2D(6, 3, groups=2)]
    layers += [Conv2D(4, 5, groups="depthwise"), MaskedConv2D(4, 3, strict=True), MaskedConv2D(4, 3, mirrored=True)]
    for seed, layer in enumerate(layers):
        layer.build((None, 4, 4, 4))
        _randomize(layer, seed)
    return layers


def test_shared_kernels_give_what_each_layer_computes_alone():
    layers, x = _mixed_layers(), _images((2, 4, 4, 4))
    alone = [layer(x).numpy() for layer in layers]
    stacks = kernel_stacks(layers)
    assert [len(one.layers) for one in stacks] == [2, 1, 1, 1, 2]
    with shared_kernels(stacks):
        together = [layer(x).numpy() for layer in layers]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_given_kernels_are_used_and_win_over_nested_ones():
    layers, x = _mixed_layers()[:2], _images((1, 4, 4, 4))
    stacks = kernel_stacks(layers)
    with shared_kernels(stacks, [tf.zeros([2, 3, 3, 4, 4])]), shared_kernels(stacks):
        outputs = layers[0](x).numpy()
    np.testing.assert_array_equal(outputs, np.broadcast_to(np.asarray(layers[0].bias), outputs.shape))
    assert np.abs(layers[0](x).numpy() - outputs).max() > 0.1


def test_gradients_flow_through_shared_kernels():
    layers, x = _mixed_layers(), _images((2, 4, 4, 4))
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]

    def gradients(make_context):
        # The stacks are computed on entry, so the tape must be there first.
        with tf.GradientTape() as tape, make_context():
            loss = tf.add_n([tf.reduce_sum(tf.sin(layer(x))) for layer in layers])
        return tape.gradient(loss, variables)

    alone, together = gradients(contextlib.nullcontext), gradients(lambda: shared_kernels(kernel_stacks(layers)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_data_dependent_initialisation_gives_mean_0_and_standard_deviation_a_fifth():
    layer = Conv2D(6, 3, strides=2, data_dependent=True)
    x = 3.0 * _images((8, 8, 8, 4)) + 1.0
    layer.build(x.shape)
    before = layer.log_norm.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.log_norm, before)
    with initializing_from_data(), shared_kernels(kernel_stacks([layer])):
        initial = layer(x).numpy()
    np.testing.assert_allclose(initial.mean((0, 1, 2)), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(initial.std((0, 1, 2)), np.full(6, 0.2), rtol=1e-4)
    np.testing.assert_allclose(layer(x), initial, rtol=1e-5, atol=1e-6)


def test_data_dependent_initialisation_leaves_other_layers_alone():
    layer, x = Conv2D(6, 3), _images((2, 4, 4, 4))
    layer.build(x.shape)
    before = [variable.numpy() for variable in layer.variables]
    with initializing_from_data():
        layer(x)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_arithmetic_dtype_rounds_dense_convolutions_only():
    x = _images((2, 4, 4, 4))
    dense, depthwise = Conv2D(4, 3), Conv2D(4, 3, groups="depthwise")
    for layer in (dense, depthwise):
        layer.build(x.shape)
    exact = [layer(x).numpy() for layer in (dense, depthwise)]
    with arithmetic_dtype("bfloat16"):
        rounded = [layer(x) for layer in (dense, depthwise)]
    assert rounded[0].dtype == rounded[1].dtype == tf.float32
    difference = np.abs(rounded[0].numpy() - exact[0]).max()
    assert 1e-6 < difference < 0.05
    np.testing.assert_array_equal(rounded[1], exact[1])
