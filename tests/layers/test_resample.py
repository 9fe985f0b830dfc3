import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.resample import BilinearUpsample, FactorizedDownsample, upsample_nearest


def _images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _randomize(layer, seed=1):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))


def _matrix(conv):
    """Effective weights [in, out] of a 1x1 convolution."""
    kernel = np.asarray(conv.kernel)[0, 0]
    return np.exp(np.asarray(conv.log_norm)) * kernel / (np.sqrt((kernel**2).sum(0)) + 1e-5)


def test_upsample_nearest_repeats_and_its_gradient_sums():
    x, upstream = tf.constant(_images((2, 3, 4, 5))), tf.constant(_images((2, 6, 8, 5), seed=1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = upsample_nearest(x)
    np.testing.assert_array_equal(y, x.numpy().repeat(2, axis=1).repeat(2, axis=2))
    expected = upstream.numpy().reshape(2, 3, 2, 4, 2, 5).sum((2, 4))
    np.testing.assert_allclose(tape.gradient(y, x, upstream), expected, rtol=1e-5, atol=1e-6)


def test_factorized_downsample_is_four_shifted_convolutions():
    x = _images((2, 4, 6, 5))
    layer = FactorizedDownsample(10)
    layer.build(x.shape)
    _randomize(layer)
    assert [conv.filters for conv in layer.convolutions] == [2, 2, 2, 4]
    active = x / (1 + np.exp(-x))
    shifted = (active, active[:, 1:, 1:], active[:, :, 1:], active[:, 1:, :])
    parts = zip(layer.convolutions, shifted, strict=True)
    expected = [part[:, ::2, ::2] @ _matrix(conv) + np.asarray(conv.bias) for conv, part in parts]
    outputs = layer(x)
    assert outputs.shape == (2, 2, 3, 10)
    np.testing.assert_allclose(outputs, np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


def _interpolation(size):
    """[2 size, size] weights of linear interpolation with aligned corners."""
    places = np.linspace(0.0, size - 1.0, 2 * size)
    return np.maximum(0.0, 1.0 - np.abs(places[:, np.newaxis] - np.arange(size)))


@pytest.mark.parametrize("height, width", [(3, 4), (1, 2)])
def test_bilinear_upsample_equals_upsampling_then_convolving(height, width):
    x = _images((2, height, width, 4))
    layer = BilinearUpsample(2)
    layer.build(x.shape)
    _randomize(layer)
    assert [variable.name for variable in layer.variables] == ["kernel", "log_norm"]
    upsampled = np.einsum("hi,wj,bijc->bhwc", _interpolation(height), _interpolation(width), x)
    np.testing.assert_allclose(layer(x), upsampled @ _matrix(layer.conv), rtol=1e-4, atol=1e-5)
