"""Residual cells and the operations they are made of (paper section 3.1, figure 3).

A cell is skip(x) + 0.1 * SE(operations(x)); its first operation changes the resolution and the width.
`CELL_OPERATIONS` lists, for every cell set, the operations of the cells in each part of the network.
"""

import collections
import enum
import functools

import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.norm import BatchNorm, swish
from nvae_tf.layers.rematerialize import REMATERIALIZING, recompute
from nvae_tf.layers.resample import BilinearUpsample, FactorizedDownsample, upsample_nearest
from nvae_tf.layers.squeeze_excite import SqueezeExcite, gated

RESIDUAL_SCALE = 0.1


class Resampling(enum.StrEnum):
    """Change of the resolution by a cell or an operation."""

    NONE = "none"
    DOWN = "down"
    UP = "up"

    @property
    def strides(self):
        """Strides of the convolution that changes the resolution."""
        return 2 if self is Resampling.DOWN else 1

    def output_shape(self, shape, filters):
        """Output shape [B, H, W, filters] for an input of `shape`."""
        batch, height, width, _ = shape
        if self is Resampling.DOWN:
            return (batch, height // 2, width // 2, filters)
        if self is Resampling.UP:
            return (batch, 2 * height, 2 * width, filters)
        return (batch, height, width, filters)


class _PreActivatedConv(Layer):
    """[BN ->] activation -> [nearest x2] -> 3x3 convolution; without BN the initialisation depends on the data."""

    normalizes = True

    def __init__(self, filters, resampling=Resampling.NONE, dilation=1, **kwargs):
        super().__init__(**kwargs)
        self.resampling = Resampling(resampling)
        self.norm = BatchNorm(name="norm") if self.normalizes else None
        self.conv = Conv2D(
            filters, 3, self.resampling.strides, dilation, data_dependent=not self.normalizes, name="conv"
        )

    def build(self, input_shape):
        if self.norm is not None:
            self.norm.build(input_shape)
        self.conv.build(input_shape)

    def call(self, inputs, training=False):
        x = inputs if self.norm is None else self.norm(inputs, training=training)
        x = self.activation(x)
        if self.resampling is Resampling.UP:
            x = upsample_nearest(x)
        return self.conv(x)


class NormSwishConv(_PreActivatedConv):
    """BN -> swish -> [nearest x2] -> 3x3 convolution: `res_bnswish`, and `res_bnswish5` with dilation 2."""

    activation = staticmethod(swish)


class NormEluConv(_PreActivatedConv):
    """BN -> ELU -> [nearest x2] -> 3x3 convolution: `res_bnelu`."""

    activation = staticmethod(tf.nn.elu)


class EluConv(_PreActivatedConv):
    """ELU -> [nearest x2] -> 3x3 convolution with data-dependent initialisation: `res_elu`."""

    activation = staticmethod(tf.nn.elu)
    normalizes = False


class InvertedResidual(Layer):
    """Inverted residual `mconv_eEkKgG`: BN -> 1x1 -> BN+swish -> KxK -> BN+swish -> 1x1 -> BN.

    By definition the nearest upsampling comes first. Here it comes just before the KxK convolution, which gives the
    same result at a quarter of the cost. The convolutions are plain: no weight norm, no bias.

    Args:
        filters, resampling: as for `Cell`.
        expansion: hidden channels per input channel.
        kernel_size: kernel size of the middle convolution.
        groups: groups of the middle convolution. Default `"depthwise"`.
    """

    def __init__(self, filters, resampling=Resampling.NONE, *, expansion, kernel_size, groups="depthwise", **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.resampling = Resampling(resampling)
        self.expansion = expansion
        self.kernel_size = kernel_size
        self.groups = groups

    def build(self, input_shape):
        hidden = input_shape[-1] * self.expansion
        wide = (*input_shape[:-1], hidden)
        conv = functools.partial(Conv2D, use_bias=False, weight_norm=False)
        repeats = 4 if self.resampling is Resampling.UP else 1
        self.norm_in = BatchNorm(repeats, name="norm_in")
        self.expand = conv(hidden, 1, name="expand")
        self.norm_expand = BatchNorm(repeats, name="norm_expand")
        self.mix = conv(hidden, self.kernel_size, self.resampling.strides, groups=self.groups, name="mix")
        self.norm_mix = BatchNorm(name="norm_mix")
        self.project = conv(self.filters, 1, name="project")
        self.norm_out = BatchNorm(name="norm_out")
        for layer in (self.norm_in, self.expand):
            layer.build(input_shape)
        for layer in (self.norm_expand, self.mix, self.norm_mix, self.project):
            layer.build(wide)
        self.norm_out.build((*input_shape[:-1], self.filters))

    def call(self, inputs, training=False):
        x = self.expand(self.norm_in(inputs, training=training))
        x = swish(self.norm_expand(x, training=training))
        if self.resampling is Resampling.UP:
            x = upsample_nearest(x)
        x = swish(self.norm_mix(self.mix(x), training=training))
        return self.norm_out(self.project(x), training=training)


_OPERATIONS = {cls.__name__: cls for cls in (NormSwishConv, NormEluConv, EluConv, InvertedResidual)}


class Cell(Layer):
    """A residual cell: skip(x) + 0.1 * SE(operations(x)).

    Args:
        operations: the operations in sequence, each a list [name of the class, dict of its arguments].
        filters: output channels.
        resampling: whether the skip path is the identity, a factorised downsampling or a bilinear upsampling.
        squeeze_excite: whether to gate the residual per channel. Default True.

    Input: [B, H, W, C]. Output: [B, H', W', filters].
    """

    def __init__(self, operations, filters, resampling=Resampling.NONE, squeeze_excite=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.resampling = Resampling(resampling)
        self.operations = [
            _OPERATIONS[kind](filters, Resampling.NONE if i else self.resampling, name=f"op_{i}", **arguments)
            for i, (kind, arguments) in enumerate(operations)
        ]
        skips = {Resampling.DOWN: FactorizedDownsample, Resampling.UP: BilinearUpsample}
        self.skip = skips[self.resampling](filters, name="skip") if self.resampling in skips else None
        self.squeeze_excite = SqueezeExcite(name="squeeze_excite") if squeeze_excite else None

    def build(self, input_shape):
        output_shape = self.resampling.output_shape(input_shape, self.filters)
        for i, operation in enumerate(self.operations):
            operation.build(output_shape if i else input_shape)
        if self.skip is not None:
            self.skip.build(input_shape)
        if self.squeeze_excite is not None:
            self.squeeze_excite.build(output_shape)

    def call(self, inputs, training=False):
        if training and REMATERIALIZING.get():
            return recompute(self, lambda x: self._residual(x, training=True), inputs)
        return self._residual(inputs, training)

    def _residual(self, inputs, training):
        x = inputs
        for operation in self.operations:
            x = operation(x, training=training)
        skip = inputs if self.skip is None else self.skip(inputs)
        if self.squeeze_excite is None:
            return skip + x * RESIDUAL_SCALE
        # Multiply the small gate, not the whole feature map, by the constant.
        return skip + gated(x, self.squeeze_excite(x) * RESIDUAL_SCALE)


# Operations of the cells in each part of the network.
CellOperations = collections.namedtuple("CellOperations", "encoder decoder preprocess postprocess")


def _inverted(expansion, kernel_size, **groups):
    return [["InvertedResidual", {"expansion": expansion, "kernel_size": kernel_size, **groups}]]


_dense, _dilated = ["NormSwishConv", {}], ["NormSwishConv", {"dilation": 2}]
_bnswish = [_dense, _dense]
_e6, _e6k11, _e3, _e3g8 = _inverted(6, 5), _inverted(6, 11), _inverted(3, 5), _inverted(3, 5, groups=8)

CELL_OPERATIONS = {
    "res_mbconv": CellOperations(_bnswish, _e6, _bnswish, _e3),
    "res_bnswish": CellOperations(*[_bnswish] * 4),
    "res_bnelu": CellOperations(*[[["NormEluConv", {}]] * 2] * 4),
    "res_elu": CellOperations(*[[["EluConv", {}]] * 2] * 4),
    "mbconv_sep": CellOperations(_e6, _e6, _e3, _e3),
    "mbconv_sep11": CellOperations(_e6k11, _e6k11, _e3, _e3),
    "mbconv_res": CellOperations(_e6, _bnswish, _e3, _bnswish),
    "mbconv_den": CellOperations(_e6, _e6, _e3g8, _e3g8),
    "res53_mbconv": CellOperations([_dilated, _dense], _e6, [_dilated, _dense], _e3),
    "res35_mbconv": CellOperations([_dense, _dilated], _e6, [_dense, _dilated], _e3),
    "res55_mbconv": CellOperations([_dilated, _dilated], _e6, [_dilated, _dilated], _e3),
}


def build_cells(cells, input_shape):
    """Builds a sequence of `Cell`s and returns its output shape."""
    shape = input_shape
    for cell in cells:
        cell.build(shape)
        shape = cell.resampling.output_shape(shape, cell.filters)
    return shape


def apply_cells(cells, x, training=False):
    """Passes x [B, H, W, C] through the cells in turn."""
    for cell in cells:
        x = cell(x, training=training)
    return x
