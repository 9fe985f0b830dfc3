"""Changes of resolution on the skip path of a cell, and nearest upsampling."""

import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.norm import swish

# (row, column) of the first pixel that each of the four convolutions reads, in the order of concatenation.
SHIFTS = ((0, 0), (1, 1), (0, 1), (1, 0))


@tf.custom_gradient
def upsample_nearest(x):
    """[B, H, W, C] -> [B, 2H, 2W, C], each value repeated twice in both directions."""
    height, width = x.shape[1], x.shape[2]

    def gradient(upstream):
        # A sum over 2 x 2 windows is much faster than the scatter of TensorFlow's own gradient.
        return 4.0 * tf.nn.avg_pool2d(upstream, 2, 2, "VALID")

    return tf.image.resize(x, (2 * height, 2 * width), "nearest"), gradient


class FactorizedDownsample(Layer):
    """Halves the resolution without losing a pixel: swish, then a 1x1 convolution of each of the four pixel phases.

    Args:
        filters: output channels; the first three convolutions have filters // 4 each, the last has the remainder.

    Input: [B, H, W, C]. Output: [B, H/2, W/2, filters].
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        quarter = filters // 4
        sizes = (quarter, quarter, quarter, filters - 3 * quarter)
        self.convolutions = [Conv2D(size, 1, name=f"conv_{i}") for i, size in enumerate(sizes, start=1)]

    def build(self, input_shape):
        for conv in self.convolutions:
            conv.build(input_shape)

    def call(self, inputs):
        phases = tf.split(tf.nn.space_to_depth(swish(inputs), 2), 4, axis=-1)
        pairs = zip(self.convolutions, SHIFTS, strict=True)
        return tf.concat([conv(phases[2 * row + column]) for conv, (row, column) in pairs], axis=-1)


class BilinearUpsample(Layer):
    """Doubles the resolution bilinearly (corners aligned) and changes the width with a 1x1 convolution without bias.

    The convolution comes first: the two commute exactly, and it costs a quarter at the low resolution.

    Input: [B, H, W, C]. Output: [B, 2H, 2W, filters].
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = Conv2D(filters, 1, use_bias=False, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        x = self.conv(inputs)
        size = (2 * inputs.shape[1], 2 * inputs.shape[2])
        # The op returns float32 for every input type.
        return tf.cast(tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True), x.dtype)
