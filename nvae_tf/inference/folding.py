"""What a cell comes to at inference: batch norm, weight norm and constants folded into the convolutions, in numpy.

A cell is written down as a sequence of steps, then neighbours that make one exact step are joined:

    convolution, batch norm  ->  convolution      always: what the padding adds comes before the batch norm
    batch norm, convolution  ->  convolution      1x1 alone: zeros that pad a larger kernel come after the batch norm
    ..., convolution, times c  ->  ..., convolution

Everything is computed in float64 and rounded once.
"""

import collections
import dataclasses

import numpy as np

from nvae_tf.layers.cells import EluConv, InvertedResidual, NormEluConv, NormSwishConv, Resampling
from nvae_tf.layers.norm import EPSILON
from nvae_tf.layers.resample import SHIFTS

SWISH, ELU, UPSAMPLE = "swish", "elu", "upsample"


@dataclasses.dataclass(frozen=True)
class Affine:
    """x * scale + offset, both [C]: a batch norm at inference."""

    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, norm):
        """That of a `BatchNorm`, from its running statistics."""
        gamma, beta, mean, variance = (
            np.asarray(v, np.float64) for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        return cls(scale, beta - mean * scale)


@dataclasses.dataclass(frozen=True)
class Linear:
    """A convolution with all that was folded into it.

    Attributes:
        kernel: [kh, kw, in/groups, out], float64, normalised.
        bias: [out], or None.
        strides, dilation, groups: as of `layers.conv.Conv2D`; groups may be `"depthwise"`.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    strides: int = 1
    dilation: int = 1
    groups: int | str = 1

    @property
    def pointwise(self):
        """Whether it sees no neighbours and needs no padding."""
        return self.kernel.shape[:2] == (1, 1) and self.groups == 1

    def then(self, affine):
        """This convolution, then an `Affine`."""
        bias = affine.offset if self.bias is None else self.bias * affine.scale + affine.offset
        return dataclasses.replace(self, kernel=self.kernel * affine.scale, bias=bias)

    def after(self, affine):
        """An `Affine`, then this convolution; it must be `pointwise`."""
        kernel = self.kernel * affine.scale[:, np.newaxis]
        bias = affine.offset @ self.kernel[0, 0]
        return dataclasses.replace(self, kernel=kernel, bias=bias if self.bias is None else bias + self.bias)

    def times(self, factor):
        """This convolution, its output times a number or [out]."""
        bias = None if self.bias is None else self.bias * factor
        return dataclasses.replace(self, kernel=self.kernel * factor, bias=bias)

    def plus(self, bias):
        """This convolution, plus a further bias [out] or None."""
        if bias is None or self.bias is None:
            return dataclasses.replace(self, bias=self.bias if bias is None else bias)
        return dataclasses.replace(self, bias=self.bias + bias)

    def without_bias(self):
        """This convolution alone."""
        return dataclasses.replace(self, bias=None)


class Folding:
    """Reads layers as steps, and counts what was folded.

    Args:
        kernels: effective kernel [kh, kw, in/groups, out] of every `Conv2D`, by the layer's id.

    Attributes:
        counts: `{what was done: how often}`.
    """

    def __init__(self, kernels):
        self._kernels = kernels
        self.counts = collections.Counter()

    def linear(self, conv):
        """`Linear` of a `Conv2D`."""
        if conv.weight_norm:
            self.counts["weight norm evaluated"] += 1
        bias = np.asarray(conv.bias, np.float64) if conv.use_bias else None
        kernel = np.asarray(self._kernels[id(conv)], np.float64)
        return Linear(kernel, bias, conv.strides, conv.dilation, conv.groups)

    def operations(self, operations, factor):
        """Steps of a cell's operations, times a factor, joined."""
        steps = [step for operation in operations for step in self._steps(operation)]
        joined = []
        for step in steps:
            joined.append(step)
            self._join(joined)
        self.counts["residual factor folded into the last convolution"] += 1
        return [*joined[:-1], joined[-1].times(factor)]

    def _steps(self, operation):
        upsample = [UPSAMPLE] if operation.resampling is Resampling.UP else []
        if isinstance(operation, InvertedResidual):
            norm_in, norm_expand, norm_mix, norm_out = (
                Affine.of(norm)
                for norm in (operation.norm_in, operation.norm_expand, operation.norm_mix, operation.norm_out)
            )
            expand, mix, project = map(self.linear, (operation.expand, operation.mix, operation.project))
            before = [norm_in, expand, norm_expand, SWISH, *upsample]
            return [*before, mix, norm_mix, SWISH, project, norm_out]
        before = {NormSwishConv: [SWISH], NormEluConv: [ELU], EluConv: [ELU]}[type(operation)]
        if not isinstance(operation, EluConv):
            before = [Affine.of(operation.norm), *before]
        return [*before, *upsample, self.linear(operation.conv)]

    def _join(self, steps):
        """Joins the last two steps where that is exact, and again what comes of it."""
        while len(steps) > 1:
            first, second = steps[-2:]
            if isinstance(first, Linear) and isinstance(second, Affine):
                steps[-2:] = [first.then(second)]
                self.counts["batch norm folded into the convolution before it"] += 1
            elif isinstance(first, Affine) and isinstance(second, Linear) and second.pointwise:
                steps[-2:] = [second.after(first)]
                self.counts["batch norm folded into the 1x1 convolution after it"] += 1
            else:
                break
        if len(steps) > 1 and isinstance(steps[-2], Affine):
            self.counts["batch norm left as a product and a sum: a nonlinearity follows"] += 1

    def downsample(self, skip):
        """`Linear` of a `FactorizedDownsample` after its swish: its four 1x1 convolutions as one 2x2 at stride 2."""
        parts = [self.linear(conv) for conv in skip.convolutions]
        channels, kernels = parts[0].kernel.shape[2], []
        for part, (row, column) in zip(parts, SHIFTS, strict=True):
            kernel = np.zeros((2, 2, channels, part.kernel.shape[3]))
            kernel[row, column] = part.kernel[0, 0]
            kernels.append(kernel)
        self.counts["four 1x1 convolutions of a downsampling joined in one of 2x2"] += 1
        return Linear(np.concatenate(kernels, -1), np.concatenate([part.bias for part in parts]), strides=2)
