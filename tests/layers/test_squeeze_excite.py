import numpy as np
import pytest

from nvae_tf.layers.squeeze_excite import SqueezeExcite


def test_gate_formula():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 2, 6)).astype(np.float32)
    layer = SqueezeExcite()
    layer.build(x.shape)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    first, first_bias, second, second_bias = (variable.numpy() for variable in layer.variables)
    hidden = np.maximum(x.mean((1, 2)) @ first + first_bias, 0.0)
    expected = 1 / (1 + np.exp(-(hidden @ second + second_bias)))
    gate = layer(x)
    assert gate.shape == (3, 1, 1, 6)
    np.testing.assert_allclose(gate[:, 0, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels, hidden", [(6, 4), (64, 4), (128, 8)])
def test_hidden_width_and_initial_ranges(channels, hidden):
    layer = SqueezeExcite()
    layer.build((None, 4, 4, channels))
    assert [tuple(v.shape) for v in layer.variables] == [(channels, hidden), (hidden,), (hidden, channels), (channels,)]
    for variable, fan_in in zip(layer.variables, (channels, channels, hidden, hidden), strict=True):
        largest = np.abs(variable.numpy()).max()
        assert largest <= fan_in**-0.5
        # A bias has so few values that the largest may be small.
        assert largest > (0.6 if len(variable.shape) == 2 else 0.0) * fan_in**-0.5
