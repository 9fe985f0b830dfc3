"""Masked convolutions of the autoregressive posterior flows (paper section 3.2 and appendix A)."""

import numpy as np

from nvae_tf.layers.conv import Conv2D


def channel_mask(in_channels, out_channels, strict):
    """Mask [in, out] at the centre of the kernel: the input channels that each output channel may see.

    If out >= in, r = out / in, and the r outputs of block i see the inputs < i (strict) or <= i. Otherwise r = in / out
    and output i sees the inputs < i * r (strict) or < (i + 1) * r.
    """
    block_of_input = np.arange(in_channels)[:, np.newaxis] // max(1, in_channels // out_channels)
    block_of_output = np.arange(out_channels) // max(1, out_channels // in_channels)
    seen = block_of_input < block_of_output if strict else block_of_input <= block_of_output
    return seen.astype(np.float32)


def causal_mask(kernel_size, in_channels, out_channels, strict, mirrored=False, depthwise=False):
    """Mask [k, k, in/groups, out]: the rows above the centre, the pixels left of it, the channel mask at the centre.

    With `strict` an output never sees its own input ("zero diagonal"); `mirrored` flips the mask in height and width,
    not in channels; with `depthwise` a channel sees only itself.
    """
    centre = kernel_size // 2
    in_per_group = 1 if depthwise else in_channels
    mask = np.zeros((kernel_size, kernel_size, in_per_group, out_channels), np.float32)
    mask[:centre] = 1.0
    mask[centre, :centre] = 1.0
    if depthwise:
        mask[centre, centre] = 0.0 if strict else 1.0
    else:
        mask[centre, centre] = channel_mask(in_channels, out_channels, strict)
    return mask[::-1, ::-1].copy() if mirrored else mask


class MaskedConv2D(Conv2D):
    """Weight-normalised `Conv2D` that is causal in raster order, then channel order.

    Args:
        strict: whether outputs do not see the input at their own position. Default False.
        mirrored: whether to reverse the raster order. Default False.

    Input: [B, H, W, in]. Output: [B, H, W, filters].
    """

    def __init__(self, filters, kernel_size, strict=False, mirrored=False, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.strict = strict
        self.mirrored = mirrored

    def build(self, input_shape):
        self.mask = causal_mask(
            self.kernel_size, input_shape[-1], self.filters, self.strict, self.mirrored, self.depthwise
        )
        super().build(input_shape)
