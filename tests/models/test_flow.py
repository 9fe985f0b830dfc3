import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.models.flow import AutoregressiveNet, FlowStep

SHAPE = (4, 3, 2)
SIZE = 4 * 3 * 2


def _latents(batch_size=1, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(batch_size, *SHAPE)), tf.float32)


def _built(layer, seed=1):
    """Builds a layer with weights far from the small initial ones, so that every possible dependency is visible."""
    layer.build((None, *SHAPE))
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        scale = 0.3 if variable.name == "log_norm" else 1.0
        variable.assign(scale * rng.normal(size=variable.shape).astype(np.float32))
    return layer


def _jacobian(function, z):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        y = function(z)
    return tape.jacobian(y, z, experimental_use_pfor=False).numpy().reshape(SIZE, SIZE)


def _order(mirrored):
    """Flat indices in raster-then-channel order; `mirrored` reverses the raster, not the channels."""
    pixels = np.arange(SHAPE[0] * SHAPE[1])
    pixels = pixels[::-1] if mirrored else pixels
    return (pixels[:, np.newaxis] * SHAPE[2] + np.arange(SHAPE[2])).ravel()


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_shift_is_strictly_causal(mirrored):
    net = _built(AutoregressiveNet(SHAPE[-1], mirrored=mirrored))
    order = _order(mirrored)
    jacobian = _jacobian(net, _latents())[order][:, order]
    np.testing.assert_array_equal(np.triu(jacobian), np.zeros_like(jacobian))
    # The second channel of a pixel sees the first, and both see the previous pixel.
    assert np.abs(np.diag(jacobian, -1)[::2]).min() > 0
    assert np.count_nonzero(jacobian) > 0.6 * SIZE * (SIZE - 1) / 2


def test_the_net_follows_its_formula():
    net, z = _built(AutoregressiveNet(SHAPE[-1])), _latents(2)
    hidden = tf.nn.elu(net.conv_in(z))
    expected = net.conv_out(tf.nn.elu(tf.nn.elu(net.conv_hidden(hidden))))
    np.testing.assert_allclose(net(z), expected, rtol=1e-5, atol=1e-6)
    shapes = [tuple(variable.shape) for variable in net.variables if variable.name != "log_norm"]
    assert shapes == [(3, 3, 2, 12), (5, 5, 1, 12), (1, 1, 12, 2), (2,)]


def test_the_last_convolution_starts_at_a_tenth():
    net = AutoregressiveNet(SHAPE[-1])
    net.build((None, *SHAPE))
    masked = np.asarray(net.conv_out.kernel) * net.conv_out.mask
    norm = np.sqrt((masked**2).sum((0, 1, 2)))
    np.testing.assert_allclose(net.conv_out.log_norm, np.log(norm + 1e-2) - 2.303, rtol=1e-5)


def test_the_log_determinant_is_zero():
    step, z = _built(FlowStep(SHAPE[-1])), _latents()
    jacobian = _jacobian(step, z)
    assert np.abs(jacobian - np.eye(SIZE)).max() > 0.1
    sign, log_det = np.linalg.slogdet(jacobian.astype(np.float64))
    assert sign == 1 and abs(log_det) < 1e-3
    bijector = step.bijector
    np.testing.assert_array_equal(bijector.forward_log_det_jacobian(z, event_ndims=3), 0.0)
    np.testing.assert_array_equal(bijector.inverse_log_det_jacobian(z, event_ndims=3), 0.0)


def test_inverse_undoes_forward():
    step, z = _built(FlowStep(SHAPE[-1])), _latents(3)
    y = step.bijector.forward(z)
    assert np.abs(y - z).max() > 0.1
    # Use a fresh tensor and a fresh bijector, because TFP caches its results.
    inverted = step.bijector.inverse(tf.constant(y.numpy()))
    np.testing.assert_allclose(inverted, z, rtol=1e-3, atol=1e-3)
