import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import CELL_SETS
from nvae_tf.layers.cells import (
    CELL_OPERATIONS,
    Cell,
    EluConv,
    InvertedResidual,
    NormEluConv,
    NormSwishConv,
    Resampling,
)
from nvae_tf.layers.norm import swish
from nvae_tf.layers.resample import upsample_nearest

SHAPE = (2, 4, 6, 8)


def _images(shape=SHAPE, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def _randomize(layer, seed=1):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.2, 1.5, variable.shape).astype(np.float32))
    return layer


def _built(layer, shape=SHAPE):
    layer.build(shape)
    return _randomize(layer)


def _describe(operations):
    """Short name of each operation, as in the original."""
    names = []
    for operation in Cell(operations, 8).operations:
        if isinstance(operation, InvertedResidual):
            groups = 0 if operation.groups == "depthwise" else operation.groups
            names.append(f"e{operation.expansion}k{operation.kernel_size}g{groups}")
        else:
            kinds = {NormSwishConv: "bnswish", NormEluConv: "bnelu", EluConv: "elu"}
            names.append(kinds[type(operation)] + ("5" if operation.conv.dilation == 2 else ""))
    return " ".join(names)


# Cells of encoder, preprocess, decoder, postprocess.
EXPECTED = {
    "res_mbconv": ("bnswish bnswish", "bnswish bnswish", "e6k5g0", "e3k5g0"),
    "res_bnswish": ("bnswish bnswish",) * 4,
    "res_bnelu": ("bnelu bnelu",) * 4,
    "res_elu": ("elu elu",) * 4,
    "mbconv_sep": ("e6k5g0", "e3k5g0", "e6k5g0", "e3k5g0"),
    "mbconv_sep11": ("e6k11g0", "e3k5g0", "e6k11g0", "e3k5g0"),
    "mbconv_res": ("e6k5g0", "e3k5g0", "bnswish bnswish", "bnswish bnswish"),
    "mbconv_den": ("e6k5g0", "e3k5g8", "e6k5g0", "e3k5g8"),
    "res53_mbconv": ("bnswish5 bnswish", "bnswish5 bnswish", "e6k5g0", "e3k5g0"),
    "res35_mbconv": ("bnswish bnswish5", "bnswish bnswish5", "e6k5g0", "e3k5g0"),
    "res55_mbconv": ("bnswish5 bnswish5", "bnswish5 bnswish5", "e6k5g0", "e3k5g0"),
}


def test_every_cell_set_has_operations():
    assert set(CELL_OPERATIONS) == set(EXPECTED) == set(CELL_SETS)


@pytest.mark.parametrize("name", EXPECTED)
def test_operations_of_a_cell_set(name):
    cells = CELL_OPERATIONS[name]
    parts = (cells.encoder, cells.preprocess, cells.decoder, cells.postprocess)
    assert tuple(map(_describe, parts)) == EXPECTED[name]


@pytest.mark.parametrize(
    "operation, activation", [(NormSwishConv, swish), (NormEluConv, tf.nn.elu), (EluConv, tf.nn.elu)]
)
def test_norm_comes_before_the_activation_and_upsampling_before_the_convolution(operation, activation):
    layer, x = _built(operation(4, Resampling.UP)), _images()
    normalized = x if operation is EluConv else layer.norm(x)
    expected = layer.conv(upsample_nearest(activation(normalized)))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert layer.conv.data_dependent is (operation is EluConv)


def test_inverted_residual_formula():
    layer, x = _built(InvertedResidual(16, Resampling.DOWN, expansion=2, kernel_size=5)), _images()
    hidden = swish(layer.norm_expand(layer.expand(layer.norm_in(x))))
    expected = layer.norm_out(layer.project(swish(layer.norm_mix(layer.mix(hidden)))))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    kernels = [variable for variable in layer.trainable_variables if variable.name not in ("gamma", "beta")]
    assert [tuple(kernel.shape) for kernel in kernels] == [(1, 1, 8, 16), (5, 5, 1, 16), (1, 1, 16, 16)]


def test_late_upsampling_equals_upsampling_first():
    late = _built(InvertedResidual(4, Resampling.UP, expansion=3, kernel_size=5))
    naive = InvertedResidual(4, Resampling.NONE, expansion=3, kernel_size=5)
    naive.build((2, 8, 12, 8))
    for variable, source in zip(naive.variables, late.variables, strict=True):
        variable.assign(source)
    x = _images()
    for training in (True, False):
        expected = naive(upsample_nearest(x), training=training)
        np.testing.assert_allclose(late(x, training=training), expected, rtol=1e-3, atol=1e-4)
    changed = 0
    for variable, other in zip(late.non_trainable_variables, naive.non_trainable_variables, strict=True):
        np.testing.assert_allclose(variable, other, rtol=1e-5, atol=1e-6)
        changed += variable.name == "moving_variance"
    assert changed == 4


@pytest.mark.parametrize("squeeze_excite", [True, False])
@pytest.mark.parametrize("resampling", Resampling)
def test_cell_formula(resampling, squeeze_excite):
    cell, x = _built(Cell([["NormSwishConv", {}], ["NormEluConv", {}]], 8, resampling, squeeze_excite)), _images()
    residual = cell.operations[1](cell.operations[0](x))
    if squeeze_excite:
        residual = residual * cell.squeeze_excite(residual)
    else:
        assert cell.squeeze_excite is None
    skip = x if resampling is Resampling.NONE else cell.skip(x)
    np.testing.assert_allclose(cell(x), skip + 0.1 * residual, rtol=1e-5, atol=1e-5)
