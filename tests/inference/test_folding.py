"""Joined steps compute what the single ones do, and `fold` leaves no batch norm that could be folded."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.inference.folding import affine
from nvae_tf.inference.linear import Affine, Linear, join
from nvae_tf.layers.norm import BatchNorm

_RNG = np.random.default_rng(0)


def _affine(channels):
    return Affine(_RNG.uniform(0.5, 1.5, channels), _RNG.normal(size=channels))


def _linear(size, inputs, outputs, bias):
    return Linear(_RNG.normal(size=(size, size, inputs, outputs)), _RNG.normal(size=outputs) if bias else None)


def _apply(steps, x):
    for step in steps:
        if isinstance(step, Affine):
            x = x * step.scale + step.offset
        elif isinstance(step, Linear):
            x = tf.nn.conv2d(x, step.kernel, step.strides, "SAME") + (0.0 if step.bias is None else step.bias)
    return x


def test_affine_is_the_batch_norm_at_inference():
    norm, x = BatchNorm(), _RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
    norm.build((None, None, None, 3))
    for variable in norm.variables:
        variable.assign(_RNG.uniform(0.5, 1.5, variable.shape))
    np.testing.assert_allclose(_apply([affine(norm)], x), norm(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("size", "before", "num_joined"), [(3, False, 1), (1, True, 1), (3, True, 2)], ids=["after", "before", "padded"]
)
def test_joined_steps_compute_the_same(bias, size, before, num_joined):
    """A batch norm after any convolution or before a 1x1; before a padded one the border would be wrong."""
    norm, linear = _affine(4), _linear(size, 4, 4, bias)
    steps, x = [norm, linear] if before else [linear, norm], _RNG.normal(size=(1, 5, 5, 4))
    joined, counts = join(steps)
    assert len(joined) == num_joined and counts.total() == 1
    np.testing.assert_allclose(_apply(joined, x), _apply(steps, x), rtol=1e-10)
