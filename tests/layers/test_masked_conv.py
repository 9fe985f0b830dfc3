import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.masked_conv import MaskedConv2D, causal_mask, channel_mask


def _order(height, width, channels, mirrored):
    """Flat indices in raster-then-channel order; `mirrored` reverses the raster, not the channels."""
    pixels = np.arange(height * width)
    pixels = pixels[::-1] if mirrored else pixels
    return (pixels[:, np.newaxis] * channels + np.arange(channels)).ravel()


def _jacobian(layer, x):
    x = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x)
    jacobian = tape.jacobian(y, x, experimental_use_pfor=False).numpy()
    return jacobian.reshape(y.shape.num_elements(), x.shape.num_elements())


@pytest.mark.parametrize(
    "inputs, outputs, strict, expected",
    [
        # Rows are inputs, and columns are outputs.
        (2, 4, True, [[0, 0, 1, 1], [0, 0, 0, 0]]),
        (2, 4, False, [[1, 1, 1, 1], [0, 0, 1, 1]]),
        (4, 2, True, [[0, 1], [0, 1], [0, 0], [0, 0]]),
        (4, 2, False, [[1, 1], [1, 1], [0, 1], [0, 1]]),
        (3, 3, True, [[0, 1, 1], [0, 0, 1], [0, 0, 0]]),
        (3, 3, False, [[1, 1, 1], [0, 1, 1], [0, 0, 1]]),
    ],
)
def test_channel_mask(inputs, outputs, strict, expected):
    np.testing.assert_array_equal(channel_mask(inputs, outputs, strict), expected)


@pytest.mark.parametrize("strict", [True, False])
def test_depthwise_mask(strict):
    mask = causal_mask(5, 3, 3, strict, depthwise=True)
    assert mask.shape == (5, 5, 1, 3)
    assert mask[:2].min() == 1 and mask[2, :2].min() == 1
    assert mask[2, 3:].max() == 0 and mask[3:].max() == 0
    np.testing.assert_array_equal(mask[2, 2], np.full((1, 3), 0.0 if strict else 1.0))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_jacobian_is_triangular(strict, mirrored):
    layer = MaskedConv2D(2, 3, strict=strict, mirrored=mirrored)
    layer.build((None, 3, 3, 2))
    rng = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    order = _order(3, 3, 2, mirrored)
    jacobian = _jacobian(layer, rng.normal(size=(1, 3, 3, 2)).astype(np.float32))[order][:, order]
    np.testing.assert_array_equal(np.triu(jacobian, 0 if strict else 1), np.zeros_like(jacobian))
    # An output sees everything before it in its 3x3 window; these two are at the last pixel of the middle row.
    seen = np.count_nonzero(jacobian[8:10], axis=1)
    np.testing.assert_array_equal(seen, [8, 9] if strict else [9, 10])


def test_log_norm_starts_at_the_masked_norm_and_the_kernel_is_masked_before_it_is_normalised():
    layer = MaskedConv2D(6, 3, strict=True, log_norm_offset=-1.0)
    layer.build((None, 4, 4, 3))
    masked = np.asarray(layer.kernel) * causal_mask(3, 3, 6, True)
    norm = np.sqrt((masked**2).sum((0, 1, 2)))
    np.testing.assert_allclose(layer.log_norm, np.log(norm + 1e-2) - 1.0, rtol=1e-5, atol=1e-6)
    layer.log_norm.assign(np.linspace(-1, 1, 6))
    expected = np.exp(np.linspace(-1, 1, 6)) * masked / (norm + 1e-5)
    np.testing.assert_allclose(layer.effective_kernel(), expected, rtol=1e-5, atol=1e-6)
