"""The steps of a folded model: convolutions and batch norms as plain arrays, and the names of the other steps.

Neighbours that are exactly equivalent to a single step are joined:

    convolution, batch norm  ->  convolution      always: the padding comes before the batch norm
    batch norm, convolution  ->  convolution      1x1 only: the zeros around a larger kernel come after the batch norm
"""

import collections
import dataclasses

import numpy as np

SWISH, ELU, UPSAMPLE = "swish", "elu", "upsample"


@dataclasses.dataclass(frozen=True)
class Affine:
    """x * scale + offset, both [C]: a batch norm at inference."""

    scale: np.ndarray
    offset: np.ndarray


@dataclasses.dataclass(frozen=True)
class Linear:
    """A convolution and everything that was folded into it.

    Attributes:
        kernel: the normalised kernel [kh, kw, in/groups, out].
        bias: [out], or None.
        strides, dilation, groups: as in `layers.conv.Conv2D`; groups may be `"depthwise"`.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    strides: int = 1
    dilation: int = 1
    groups: int | str = 1

    @property
    def pointwise(self):
        """Whether this is a 1x1 convolution over all channels, which needs no padding."""
        return self.kernel.shape[:2] == (1, 1) and self.groups == 1

    def then(self, affine):
        """This convolution followed by an `Affine`."""
        bias = affine.offset if self.bias is None else self.bias * affine.scale + affine.offset
        return dataclasses.replace(self, kernel=self.kernel * affine.scale, bias=bias)

    def after(self, affine):
        """An `Affine` followed by this convolution, which must be `pointwise`."""
        bias = affine.offset @ self.kernel[0, 0]
        kernel = self.kernel * affine.scale[:, np.newaxis]
        return dataclasses.replace(self, kernel=kernel, bias=bias if self.bias is None else bias + self.bias)

    def times(self, factor):
        """This convolution with its output multiplied by a number."""
        bias = None if self.bias is None else self.bias * factor
        return dataclasses.replace(self, kernel=self.kernel * factor, bias=bias)


def join(steps):
    """Joins neighbours that are exactly equivalent to a single step; returns a list, and a `Counter` of the joins."""
    joined, counts = [], collections.Counter()
    for step in steps:
        joined.append(step)
        while len(joined) > 1:
            first, second = joined[-2:]
            if isinstance(first, Linear) and isinstance(second, Affine):
                joined[-2:] = [first.then(second)]
                counts["batch norm folded into the convolution before it"] += 1
            elif isinstance(first, Affine) and isinstance(second, Linear) and second.pointwise:
                joined[-2:] = [second.after(first)]
                counts["batch norm folded into the 1x1 convolution after it"] += 1
            else:
                break
    left = sum(isinstance(step, Affine) for step in joined)
    if left:
        counts["batch norm left as a product and a sum: a nonlinearity follows"] = left
    return joined, counts
