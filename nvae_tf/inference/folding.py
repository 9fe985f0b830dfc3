"""Reads an NVAE for inference: batch norm, weight norm and constants go into plain float64 arrays of convolutions."""

import collections
import dataclasses

import numpy as np

from nvae_tf.inference.linear import ELU, SWISH, UPSAMPLE, Affine, Linear, join
from nvae_tf.layers.cells import RESIDUAL_SCALE, InvertedResidual, NormSwishConv, Resampling
from nvae_tf.layers.norm import EPSILON
from nvae_tf.layers.resample import SHIFTS


class Folding:
    """Folds the layers of an `NVAE`, as far as that is exact.

    Attributes:
        counts: `{what was folded: how often}`.
    """

    def __init__(self, nvae):
        self._kernels = {}
        for stack in nvae.kernel_stacks:
            self._kernels.update(zip(map(id, stack.layers), np.asarray(stack.effective()), strict=True))
        self.counts = collections.Counter()

    def linear(self, conv):
        """`Linear` of a `Conv2D`."""
        if conv.weight_norm:
            self.counts["weight norm evaluated"] += 1
        kernel, dilation = self._kernels[id(conv)].astype(np.float64), conv.dilation
        if dilation > 1 and conv.strides == dilation:
            # TensorFlow has no dilated convolution with strides: a plain one with zeros between the taps.
            size = (kernel.shape[0] - 1) * dilation + 1
            spread = np.zeros((size, size, *kernel.shape[2:]))
            spread[::dilation, ::dilation] = kernel
            kernel, dilation = spread, 1
        bias = np.asarray(conv.bias, np.float64) if conv.use_bias else None
        return Linear(kernel, bias, conv.strides, dilation, conv.groups)

    def cell(self, cell):
        """The parts of a `Cell`, skip(x) + gate(last(steps(x))).

        Returns:
            steps: list of `Affine`, `Linear` and the names of `inference.linear`.
            last: `Linear` at the end of the residual, including the residual's factor.
            skip: `Linear` of the skip path: after a swish, with stride 2, where the cell downsamples; before a bilinear
                upsampling where it upsamples; None for the identity.
            gate: the two `Linear`s of squeeze-and-excitation, or None.
        """
        (*steps, last), counts = join(step for operation in cell.operations for step in self._steps(operation))
        self.counts.update(counts)
        self.counts["residual factor folded into the last convolution"] += 1
        last, skip, gate = last.times(RESIDUAL_SCALE), None, None
        if cell.squeeze_excite is not None:
            reduce, expand = cell.squeeze_excite.reduce, cell.squeeze_excite.expand
            # The gate depends on the residual before the factor.
            gate = [_pointwise(reduce, 1.0 / RESIDUAL_SCALE), _pointwise(expand)]
        if cell.resampling is Resampling.DOWN:
            skip = self._downsample(cell.skip)
            if gate is None:
                # One bias after the sum of both convolutions; see `blocks.Convolution`.
                skip = dataclasses.replace(skip, bias=skip.bias + last.bias)
                last = dataclasses.replace(last, bias=None)
        elif cell.resampling is Resampling.UP:
            skip = self.linear(cell.skip.conv)
        return steps, last, skip, gate

    def _steps(self, operation):
        upsample = [UPSAMPLE] if operation.resampling is Resampling.UP else []
        if isinstance(operation, InvertedResidual):
            norms = operation.norm_in, operation.norm_expand, operation.norm_mix, operation.norm_out
            norm_in, norm_expand, norm_mix, norm_out = map(affine, norms)
            expand, mix, project = map(self.linear, (operation.expand, operation.mix, operation.project))
            before = [norm_in, expand, norm_expand, SWISH, *upsample]
            return [*before, mix, norm_mix, SWISH, project, norm_out]
        norm = [] if operation.norm is None else [affine(operation.norm)]
        activation = SWISH if isinstance(operation, NormSwishConv) else ELU
        return [*norm, activation, *upsample, self.linear(operation.conv)]

    def _downsample(self, skip):
        """A `FactorizedDownsample` after its swish: its four 1x1 convolutions as one 2x2 of stride 2."""
        parts = [self.linear(conv) for conv in skip.convolutions]
        kernels = [np.zeros((2, 2, *part.kernel.shape[2:])) for part in parts]
        for kernel, part, (row, column) in zip(kernels, parts, SHIFTS, strict=True):
            kernel[row, column] = part.kernel[0, 0]
        self.counts["four 1x1 convolutions of a downsampling joined in one of 2x2"] += 1
        return Linear(np.concatenate(kernels, -1), np.concatenate([part.bias for part in parts]), strides=2)

    def merge(self, group, start):
        """(`Linear`, constant) of a `LatentGroup`'s merge of [state, z].

        The state of group 0 is the learned start [h, w, C] or None. It does not depend on the input, nor does its part
        of the merge: with a start the `Linear` is of z only, and the constant [1, h, w, C'] includes the bias.
        """
        merge = self.linear(group.merge.conv if group.merge_state else group.merge)
        if not group.first or start is None:
            return merge, None
        start = np.asarray(start, np.float64)
        split = start.shape[-1]
        self.counts["learned start merged into a constant"] += 1
        constant = (start @ merge.kernel[0, 0, :split] + merge.bias)[np.newaxis]
        return Linear(merge.kernel[:, :, split:]), constant


def affine(norm):
    """`Affine` of a `BatchNorm`, from its running statistics."""
    variables = norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance
    gamma, beta, mean, variance = (np.asarray(variable, np.float64) for variable in variables)
    scale = gamma / np.sqrt(variance + EPSILON)
    return Affine(scale, beta - mean * scale)


def _pointwise(dense, factor=1.0):
    """1x1 `Linear` of a Keras `Dense` layer, its kernel multiplied by a factor."""
    kernel = np.asarray(dense.kernel, np.float64)[np.newaxis, np.newaxis]
    return Linear(kernel * factor, np.asarray(dense.bias, np.float64))
