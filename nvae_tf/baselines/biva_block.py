"""The residual block of BIVA."""

import tensorflow as tf

from nvae_tf.baselines.weight_norm import NormConv2D, NormConv2DTranspose
from nvae_tf.layers.dropout import dropout
from nvae_tf.layers.layer import Layer

RULE = "biva"  # that of all layers, in `nvae_tf.baselines.weight_norm.RULES`


class GatedBlock(Layer):
    """Gated residual block of BIVA, with a second input, the skip connection, where `skip` says of which resolution.

    Args:
        filters: output channels.
        kernel_size: side of the kernels.
        rate: rate of dropout.
        place: number of the block in the model, which gives it its masks of dropout.
        strides: 1, or 2 to halve the resolution. Default 1.
        upsample: whether to double the resolution instead. Default False.
        residual: whether to add the input, as far as its shape allows, and to begin with an ELU. Default True.
        skip: resolution of the second input: `"same"`, `"half"` or `"none"` for no such input. Default `"none"`.

    Input: [B, H, W, in], and the second input after its ELU. Output: [B, H', W', filters].
    """

    def __init__(
        self, filters, kernel_size, rate, place, strides=1, upsample=False, residual=True, skip="none", **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.rate = rate
        self.place = place
        self.strides = strides
        self.upsample = upsample
        self.residual = residual
        self.conv1 = NormConv2D(filters, kernel_size, RULE, name="conv1")
        if upsample:
            self.conv2 = NormConv2DTranspose(2 * filters, kernel_size, RULE, name="conv2")
        else:
            self.conv2 = NormConv2D(2 * filters, kernel_size, RULE, strides, name="conv2")
        self.aux = None
        if skip == "same":
            self.aux = NormConv2D(filters, 1, RULE, name="aux")
        elif skip == "half":
            self.aux = NormConv2DTranspose(filters, kernel_size, RULE, name="aux")

    def build(self, input_shape, skip_channels=None):
        inner = (*input_shape[:-1], self.filters)
        self.conv1.build(input_shape)
        self.conv2.build(inner)
        if self.aux is not None:
            self.aux.build((*input_shape[:-1], skip_channels))

    def call(self, inputs, skip=None):
        y = self.conv1(tf.nn.elu(inputs) if self.residual else inputs)
        if skip is not None:
            y += self.aux(skip)
        y = dropout(tf.nn.elu(y), self.rate, self.place)
        y, gate = tf.split(self.conv2(y), 2, axis=-1)
        y *= tf.sigmoid(gate)
        if not self.residual or self.upsample or inputs.shape[-1] < self.filters:
            return y
        return y + tf.cast(self._shortcut(inputs), y.dtype)

    def _shortcut(self, inputs):
        if inputs.shape[-1] > self.filters:
            inputs = inputs[..., : self.filters]
        if self.strides == 1:
            return inputs
        # A mean over 3 x 3 pixels that counts the zeros beyond the end, as "SAME" would not.
        return tf.nn.avg_pool2d(tf.pad(inputs, [[0, 0], [0, 1], [0, 1], [0, 0]]), 3, 2, "VALID")
