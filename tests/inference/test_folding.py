import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.inference.folding import Affine, Folding, Linear
from nvae_tf.layers.cells import InvertedResidual, NormSwishConv
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.norm import BatchNorm

_RNG = np.random.default_rng(0)


def _norm(channels):
    norm = BatchNorm()
    norm.build((None, None, None, channels))
    for variable in norm.variables:
        variable.assign(_RNG.uniform(0.5, 1.5, variable.shape))
    return norm


def _conv(linear, x):
    y = tf.nn.conv2d(tf.cast(x, tf.float64), linear.kernel, linear.strides, "SAME")
    return y if linear.bias is None else y + linear.bias


def _linear(size, inputs, outputs, bias=True):
    return Linear(_RNG.normal(size=(size, size, inputs, outputs)), _RNG.normal(size=outputs) if bias else None)


def test_affine_is_the_batch_norm_at_inference():
    norm, x = _norm(3), _RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
    affine = Affine.of(norm)
    np.testing.assert_allclose(x * affine.scale + affine.offset, norm(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_affine_after_a_padded_convolution(bias):
    linear, affine, x = _linear(3, 2, 4, bias), Affine.of(_norm(4)), _RNG.normal(size=(1, 5, 5, 2))
    expected = _conv(linear, x) * affine.scale + affine.offset
    np.testing.assert_allclose(_conv(linear.then(affine), x), expected, rtol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_affine_before_a_pointwise_convolution(bias):
    linear, affine, x = _linear(1, 3, 4, bias), Affine.of(_norm(3)), _RNG.normal(size=(1, 5, 5, 3))
    expected = _conv(linear, x * affine.scale + affine.offset)
    np.testing.assert_allclose(_conv(linear.after(affine), x), expected, rtol=1e-12)


def test_no_affine_is_folded_into_a_padded_convolution_after_it():
    # The zeros that pad the input come after the batch norm: at the border the folded offset would be wrong.
    folding = Folding({})
    steps = [Affine.of(_norm(2)), _linear(3, 2, 4)]
    folding._join(steps)
    assert len(steps) == 2


def _folded(operations):
    convolutions = [layer for op in operations for layer in op._flatten_layers() if isinstance(layer, Conv2D)]
    folding = Folding({id(conv): np.asarray(conv.effective_kernel()) for conv in convolutions})
    return folding.operations(operations, 0.1), folding.counts


def test_inverted_residual_has_no_batch_norm_left():
    operation = InvertedResidual(4, expansion=3, kernel_size=5)
    operation.build((None, 8, 8, 4))
    steps, counts = _folded([operation])
    assert [type(step) for step in steps] == [Linear, str, Linear, str, Linear]
    assert counts["batch norm folded into the convolution before it"] == 3
    assert counts["batch norm folded into the 1x1 convolution after it"] == 1


def test_batch_norm_between_two_operations_is_folded_and_the_first_is_left():
    operations = [NormSwishConv(4), NormSwishConv(4)]
    for operation in operations:
        operation.build((None, 8, 8, 4))
    steps, counts = _folded(operations)
    assert [type(step) for step in steps] == [Affine, str, Linear, str, Linear]
    assert counts["batch norm left as a product and a sum: a nonlinearity follows"] == 1
