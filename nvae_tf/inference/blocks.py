"""The folded layers: what inference computes, in operations that every runtime of this project has.

No operation is of rank 5, none splits or tiles, and nothing is padded but by "SAME" at stride 1 or by an explicit pad:
the same graph serves TensorFlow Serving, TFLite's GPU delegate and ONNX.
"""

import numpy as np
import tensorflow as tf

from nvae_tf.inference.folding import ELU, SWISH, UPSAMPLE, Affine, Linear
from nvae_tf.layers.cells import RESIDUAL_SCALE, Resampling


def _variable(values):
    return tf.Variable(np.asarray(values, np.float32), trainable=False)


def channels(x, start, stop):
    """x[..., start:stop] of [B, H, W, C]."""
    return tf.slice(x, [0, 0, 0, start], [-1, -1, -1, stop - start])


class Convolution(tf.Module):
    """A `Linear` with float32 variables.

    Args:
        linear: `Linear`.

    Input: [B, H, W, in]. Output: [B, H / strides, W / strides, out].
    """

    def __init__(self, linear):
        super().__init__()
        self._depthwise = linear.groups == "depthwise"
        kernel = linear.kernel.transpose(0, 1, 3, 2) if self._depthwise else linear.kernel
        self._groups = 1 if self._depthwise else linear.groups
        self._strides, self._dilation = linear.strides, linear.dilation
        if self._dilation > 1 and self._strides == self._dilation:
            # Every tap falls on the same residue class: the taps at their distances in a plain kernel.
            kernel, self._dilation = _spread(kernel, self._dilation), 1
        self.kernel = _variable(kernel)
        self.bias = None if linear.bias is None else _variable(linear.bias)

    def __call__(self, x, plus=None):
        """The convolution of x; `plus` [B, H, W, out] is added to it.

        On CPUs with oneDNN TensorFlow fuses convolution + bias + addition into a kernel that is not safe to run twice
        at the same time (wrong numbers, crashes under concurrent requests): the bias comes last, which is not fused so.
        """
        x = self._convolve(x)
        if plus is not None:
            x += plus
        return x if self.bias is None else tf.nn.bias_add(x, self.bias)

    def _convolve(self, x):
        size = self.kernel.shape[0]
        padding = "SAME"
        if self._strides > 1:
            # "SAME" at stride 2 would pad one side alone; a 2x2 kernel at stride 2 needs nothing.
            padding, pad = "VALID", (size - 1) // 2
            if pad:
                x = tf.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        if self._depthwise:
            return tf.nn.depthwise_conv2d(x, self.kernel, (1, self._strides, self._strides, 1), padding)
        if self._groups == 1:
            return tf.nn.conv2d(x, self.kernel, self._strides, padding, dilations=self._dilation)
        inputs, outputs = self.kernel.shape[2], self.kernel.shape[3] // self._groups
        parts = [
            tf.nn.conv2d(
                channels(x, g * inputs, (g + 1) * inputs),
                self.kernel[..., g * outputs : (g + 1) * outputs],
                self._strides,
                padding,
            )
            for g in range(self._groups)
        ]
        return tf.concat(parts, axis=-1)


def _spread(kernel, dilation):
    size = (kernel.shape[0] - 1) * dilation + 1
    result = np.zeros((size, size, *kernel.shape[2:]))
    result[::dilation, ::dilation] = kernel
    return result


def swish(x):
    """x * sigmoid(x)."""
    return x * tf.sigmoid(x)


def upsample_nearest(x):
    """[B, H, W, C] -> [B, 2H, 2W, C], every value repeated twice in each direction."""
    # Without half pixels, which delegates refuse; at a factor of two the values are the same.
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=(2 * x.shape[1], 2 * x.shape[2]))


def upsample_bilinear(x):
    """[B, H, W, C] -> [B, 2H, 2W, C], corners aligned."""
    return tf.raw_ops.ResizeBilinear(images=x, size=(2 * x.shape[1], 2 * x.shape[2]), align_corners=True)


class ScaleAndShift(tf.Module):
    """An `Affine` with float32 variables; input and output [B, H, W, C]."""

    def __init__(self, affine):
        super().__init__()
        self.scale, self.offset = _variable(affine.scale), _variable(affine.offset)

    def __call__(self, x):
        return x * self.scale + self.offset


_FUNCTIONS = {SWISH: swish, ELU: tf.nn.elu, UPSAMPLE: upsample_nearest}
_MODULES = {Affine: ScaleAndShift, Linear: Convolution}


class Gate(tf.Module):
    """Squeeze-and-excitation of a residual that comes multiplied by a factor; input and output [B, H, W, C].

    Args:
        squeeze_excite: `SqueezeExcite`.
        factor: of the residual; the first matrix makes up for it.
    """

    def __init__(self, squeeze_excite, factor):
        super().__init__()
        self.reduce, self.expand = (
            Convolution(Linear(np.asarray(dense.kernel, np.float64)[np.newaxis, np.newaxis] * scale, dense.bias))
            for dense, scale in ((squeeze_excite.reduce, 1.0 / factor), (squeeze_excite.expand, 1.0))
        )

    def __call__(self, x):
        # The mean keeps its rank, and the matrices are 1x1 convolutions: rank 4 throughout.
        mean = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        return x * tf.sigmoid(self.expand(tf.nn.relu(self.reduce(mean))))


class InferenceCell(tf.Module):
    """A `Cell`, folded: skip(x) + gate(steps(x)).

    Args:
        cell: `Cell`.
        folding: `Folding`.

    Input: [B, H, W, C]. Output: [B, H', W', filters].
    """

    def __init__(self, cell, folding):
        super().__init__()
        self._resampling = cell.resampling
        *steps, last = folding.operations(cell.operations, RESIDUAL_SCALE)
        self.steps = [_FUNCTIONS[step] if isinstance(step, str) else _MODULES[type(step)](step) for step in steps]
        self.gate = None if cell.squeeze_excite is None else Gate(cell.squeeze_excite, RESIDUAL_SCALE)
        self.skip = None
        if cell.resampling is Resampling.DOWN:
            skip = folding.downsample(cell.skip)
            if self.gate is None:
                # One bias for the sum of two convolutions, after it; see `Convolution`.
                skip, last = skip.plus(last.bias), last.without_bias()
            self.skip = Convolution(skip)
        elif cell.resampling is Resampling.UP:
            self.skip = Convolution(folding.linear(cell.skip.conv))
        self.last = Convolution(last)

    def __call__(self, x):
        residual = apply(self.steps, x)
        if self._resampling is Resampling.DOWN:
            return self.skip(swish(x), plus=self._gated(self.last(residual)))
        skip = upsample_bilinear(self.skip(x)) if self._resampling is Resampling.UP else x
        return self.last(residual, plus=skip) if self.gate is None else skip + self.gate(self.last(residual))

    def _gated(self, residual):
        return residual if self.gate is None else self.gate(residual)


def apply(steps, x):
    """Passes x [B, H, W, C] through cells or other steps in turn."""
    for step in steps:
        x = step(x)
    return x
