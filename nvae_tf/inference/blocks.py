"""The folded layers as `tf.Module`s, built from operations that every runtime of this project supports.

No tensor has rank 5, nothing is split or tiled, and padding is explicit or "SAME" at stride 1, so that the same graph
works with TensorFlow Serving, TFLite's GPU delegate and ONNX.
"""

import tensorflow as tf

from nvae_tf.inference.linear import ELU, SWISH, UPSAMPLE, Affine, Linear


def constant_variable(values):
    """A non-trainable float32 `tf.Variable`."""
    return tf.Variable(values, trainable=False, dtype=tf.float32)


def channels(x, start, stop):
    """x[..., start:stop] of [B, H, W, C]."""
    return tf.slice(x, [0, 0, 0, start], [-1, -1, -1, stop - start])


class Convolution(tf.Module):
    """A `Linear` with float32 variables; input [B, H, W, in], output [B, H / strides, W / strides, out]."""

    def __init__(self, linear):
        super().__init__()
        self._depthwise = linear.groups == "depthwise"
        self._groups = 1 if self._depthwise else linear.groups
        self._strides, self._dilation = linear.strides, linear.dilation
        self.kernel = constant_variable(linear.kernel.transpose(0, 1, 3, 2) if self._depthwise else linear.kernel)
        self.bias = None if linear.bias is None else constant_variable(linear.bias)

    def __call__(self, x, plus=None):
        """Applies the convolution to x and adds a tensor [B, H, W, out] if one is given.

        On CPUs with oneDNN TensorFlow fuses convolution + bias + addition into a kernel that is not thread-safe (wrong
        numbers or crashes under concurrent requests). It does not fuse them if the bias is added last.
        """
        x = self._convolve(x)
        if plus is not None:
            x += plus
        return x if self.bias is None else tf.nn.bias_add(x, self.bias)

    def _convolve(self, x):
        padding = "SAME"
        if self._strides > 1:
            # "SAME" at stride 2 would pad only one side; a 2x2 kernel at stride 2 needs no padding.
            padding, pad = "VALID", (self.kernel.shape[0] - 1) // 2
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


class ScaleAndShift(tf.Module):
    """An `Affine` with float32 variables; input and output [B, H, W, C]."""

    def __init__(self, affine):
        super().__init__()
        self.scale, self.offset = constant_variable(affine.scale), constant_variable(affine.offset)

    def __call__(self, x):
        return x * self.scale + self.offset


def _swish(x):
    """x * sigmoid(x)."""
    return x * tf.sigmoid(x)


def _upsample_nearest(x):
    """[B, H, W, C] -> [B, 2H, 2W, C], every value repeated twice in each direction."""
    # Delegates do not support half-pixel centers; for a factor of two the values are the same without them.
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=(2 * x.shape[1], 2 * x.shape[2]))


def _upsample_bilinear(x):
    """[B, H, W, C] -> [B, 2H, 2W, C], corners aligned."""
    return tf.raw_ops.ResizeBilinear(images=x, size=(2 * x.shape[1], 2 * x.shape[2]), align_corners=True)


_FUNCTIONS = {SWISH: _swish, ELU: tf.nn.elu, UPSAMPLE: _upsample_nearest}
_MODULES = {Affine: ScaleAndShift, Linear: Convolution}


class InferenceCell(tf.Module):
    """A `FoldedCell` with float32 variables; input [B, H, W, C], output [B, H', W', filters]."""

    def __init__(self, cell):
        super().__init__()
        self.steps = [_FUNCTIONS[step] if isinstance(step, str) else _MODULES[type(step)](step) for step in cell.steps]
        self.last = Convolution(cell.last)
        self.gate = None if cell.gate is None else [Convolution(linear) for linear in cell.gate]
        self.skip = None if cell.skip is None else Convolution(cell.skip)
        self._downsamples = cell.skip is not None and cell.skip.strides > 1

    def __call__(self, x):
        residual = apply(self.steps, x)
        if self._downsamples:
            return self.skip(_swish(x), plus=self._gated(self.last(residual)))
        skip = x if self.skip is None else _upsample_bilinear(self.skip(x))
        return self.last(residual, plus=skip) if self.gate is None else skip + self._gated(self.last(residual))

    def _gated(self, x):
        """x times the gate of squeeze-and-excitation, if the cell has one."""
        if self.gate is None:
            return x
        reduce, expand = self.gate
        # The mean keeps its dimensions, and the matrices are 1x1 convolutions, so every tensor has rank 4.
        mean = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        return x * tf.sigmoid(expand(tf.nn.relu(reduce(mean))))


def apply(steps, x):
    """Passes x [B, H, W, C] through cells or other steps in turn."""
    for step in steps:
        x = step(x)
    return x
