"""Tests of nvae_tf.baselines.weight_norm."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.weight_norm import NormConv2D, NormConv2DTranspose, NormDense
from nvae_tf.layers.kernels import COMPUTE_DTYPE, INITIALIZING_FROM_DATA, setting


class _Masked(NormConv2D):
    mask = np.array([[[[1.0], [0.0]]]], np.float32)


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _set(layer, *shape):
    """Builds the layer for inputs of a shape and gives it g = 2, 3, ..; returns v as an array."""
    layer.build(shape)
    layer.v.assign(_normal(*layer.v.shape))
    layer.g.assign(2.0 + np.arange(layer.filters))
    layer.bias.assign(0.1 * np.arange(layer.filters))
    return layer.v.numpy()


def test_dense():
    layer = NormDense(3, "pixelsnail")
    v, x = _set(layer, None, 5), _normal(4, 5)
    expected = x @ (v / np.linalg.norm(v, axis=0) * [2.0, 3.0, 4.0]) + [0.0, 0.1, 0.2]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, strides", [(3, 1), (4, 1), (3, 2), ((2, 3), 1)])
def test_convolution_pads_as_tensorflow(size, strides):
    layer = NormConv2D(3, size, "pixelsnail", strides)
    v, x = _set(layer, None, 8, 8, 2), _normal(2, 8, 8, 2)
    kernel = v / np.sqrt(np.sum(v**2, (0, 1, 2))) * [2.0, 3.0, 4.0]
    expected = tf.nn.conv2d(x, kernel.astype(np.float32), strides, "SAME") + 0.1 * np.arange(3.0, dtype=np.float32)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_mask_applies_before_the_norm():
    layer = _Masked(3, 3, "pixelsnail")
    _set(layer, None, 8, 8, 2)
    np.testing.assert_array_equal(layer.kernel()[:, :, 1], 0.0)
    np.testing.assert_allclose(np.sqrt(np.sum(layer.kernel() ** 2, (0, 1, 2))), [2.0, 3.0, 4.0], rtol=1e-6)


def test_kernel_of_pixelsnail_starts_as_v():
    layer = NormConv2DTranspose(3, 4, "pixelsnail")
    layer.build((None, 4, 4, 2))
    np.testing.assert_allclose(layer.kernel(), layer.v, rtol=1e-5)
    assert np.max(np.abs(layer.v)) == pytest.approx(32**-0.5, rel=0.1)


def test_kernel_of_iaf_vae_has_one_norm_for_each_last_channel():
    for layer, g in ((NormConv2D(3, 3, "iaf_vae"), [1, 1, 3]), (NormConv2DTranspose(3, 3, "iaf_vae"), [3, 1])):
        v = _set(layer, None, 8, 8, 2)
        gain = np.exp([2.0, 3.0, 4.0]).reshape(g)
        np.testing.assert_allclose(layer.kernel(), v / np.sqrt(np.sum(v**2, (0, 1, 2))) * gain, rtol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_transposed_convolution_is_the_gradient_of_a_convolution(size):
    layer = NormConv2DTranspose(3, size, "pixelsnail")
    v, x = _set(layer, None, 4, 4, 2), _normal(2, 4, 4, 2)
    layer.bias.assign([0.0, 0.0, 0.0])
    kernel = v / np.sqrt(np.sum(v**2, (0, 1, 3), keepdims=True)) * np.array([[2.0], [3.0], [4.0]])
    large = tf.Variable(tf.zeros([2, 8, 8, 3]))
    with tf.GradientTape() as tape:
        inner = tf.reduce_sum(x * tf.nn.conv2d(large, kernel.astype(np.float32), 2, "SAME"))
    np.testing.assert_allclose(layer(x), tape.gradient(inner, large), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: NormDense(3, "biva"), (64, 5)),
        (lambda: NormConv2D(3, 3, "biva", 2), (4, 8, 8, 2)),
        (lambda: NormConv2D(3, 3, "iaf_vae"), (4, 8, 8, 2)),
        (lambda: NormConv2DTranspose(3, 3, "iaf_vae_masked"), (4, 4, 4, 2)),
    ],
    ids=["biva_dense", "biva_convolution", "iaf_convolution", "iaf_transposed"],
)
def test_start_from_data_normalises_the_output(make, shape):
    layer, x = make(), 1.0 + _normal(*shape)
    _set(layer, *shape)
    with setting(INITIALIZING_FROM_DATA, True):
        first = layer(x)
    axes = tuple(range(len(shape) - 1))
    count = first.shape.num_elements() // 3
    std = {"biva": 0.01 * np.sqrt(1 - 1 / count), "iaf_vae": 0.1, "iaf_vae_masked": 1.0}[layer.rule]
    np.testing.assert_allclose(np.mean(first, axes), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.std(first, axes), std, rtol=1e-5)
    if layer.rule != "biva":
        layer.g.assign(3.0 * layer.g)  # only a third of the logarithm is kept
    np.testing.assert_allclose(layer(x), first, rtol=1e-4, atol=1e-5)


def test_start_of_biva_counts_what_is_cropped():
    layer, x = NormConv2DTranspose(3, 5, "biva"), _normal(2, 4, 4, 2)
    v = _set(layer, None, 4, 4, 2)
    with setting(INITIALIZING_FROM_DATA, True):
        layer(x)
    direction = v / np.sqrt(np.sum(v**2, (0, 1, 3), keepdims=True))
    full = tf.nn.conv2d_transpose(x, direction, [2, 11, 11, 3], 2, "VALID")
    np.testing.assert_allclose(layer.g, 0.01 / np.std(full, (0, 1, 2), ddof=1), rtol=1e-5)
    np.testing.assert_allclose(layer.bias, -layer.g * np.mean(full, (0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_computes_in_the_given_type():
    layer, x = NormConv2D(3, 3, "pixelsnail"), _normal(2, 8, 8, 2)
    _set(layer, None, 8, 8, 2)
    with setting(COMPUTE_DTYPE, "bfloat16"):
        half = layer(x)
    assert half.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(half, tf.float32), layer(x), rtol=0.05, atol=0.1)
