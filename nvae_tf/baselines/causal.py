"""Layers of PixelSNAIL that are causal in raster order, for all positions of a map at once or at a `Cursor`."""

import math

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.weight_norm import NormConv2D, NormDense
from nvae_tf.layers.dropout import dropout
from nvae_tf.layers.layer import Layer

_RULE = "pixelsnail"
_HEADS = 8
_UNSEEN = -1e4  # score of the positions that attention must not see


class CausalConv2D(NormConv2D):
    """Convolution that sees the rows above and the columns to the left of a position, but not the position itself."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, _RULE, padding="VALID", **kwargs)
        mask = np.ones((kernel_size, kernel_size, 1, 1), np.float32)
        mask[-1, kernel_size // 2 :] = 0.0
        self.mask = mask

    def call(self, inputs, cursor=None):
        if cursor is not None:
            return cursor.convolve(inputs)
        side = self.kernel_size // 2
        return super().call(tf.pad(inputs, [(0, 0), (self.kernel_size - 1, 0), (side, side), (0, 0)]))

    def split_kernel(self):
        """The kernels [k - 1, k, in, out] over the rows above, and [1, k // 2, in, out] to the left of a position."""
        kernel = self.kernel()
        return kernel[:-1], kernel[-1:, : self.kernel_size // 2]


class GatedResidual(Layer):
    """x + a sigmoid(b), where a and b are the halves of two convolutions with ELU; `aux` and `condition` add to them.

    Args:
        filters: channels between the convolutions.
        kernel_size: of both.
        place: number of the place in the model, for `dropout`.
        dropout_rate: before the second convolution.
        causal: whether the convolutions are causal. Default False.
    """

    def __init__(self, filters, kernel_size, place, dropout_rate, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.place, self.dropout_rate, self.causal = place, dropout_rate, causal

    def build(self, input_shape, aux_channels=0, condition_channels=0):
        channels = input_shape[-1]
        self.conv1 = self._conv(self.filters, "conv1")
        self.conv2 = self._conv(2 * channels, "conv2")
        self.aux = NormConv2D(self.filters, 1, _RULE, name="aux") if aux_channels else None
        self.condition = None
        if condition_channels:
            self.condition = NormConv2D(2 * channels, 1, _RULE, use_bias=False, name="condition")
        widths = channels, self.filters, aux_channels, condition_channels
        for layer, width in zip((self.conv1, self.conv2, self.aux, self.condition), widths, strict=True):
            if layer is not None:
                layer.build((None, None, None, width))

    def _conv(self, filters, name):
        if self.causal:
            return CausalConv2D(filters, self.kernel_size, name=name)
        return NormConv2D(filters, self.kernel_size, _RULE, name=name)

    def call(self, inputs, aux=None, condition=None, cursor=None):
        where = {"cursor": cursor} if self.causal else {}
        x = self.conv1(tf.nn.elu(inputs), **where)
        if self.aux is not None:
            x += self.aux(tf.nn.elu(aux))
        x = self.conv2(dropout(tf.nn.elu(x), self.dropout_rate, self.place), **where)
        if condition is not None:
            x += self.condition(condition)
        a, b = tf.split(x, 2, axis=-1)
        return inputs + a * tf.sigmoid(b)


class CausalBlock(Layer):
    """Causal gated residuals, then attention over the earlier positions or, without it, a 1x1 convolution.

    Args:
        filters, kernel_size: of the residuals' convolutions.
        num_residuals: number of residuals.
        attention: whether there is attention.
        place: number of the first of the block's places, for `dropout`.
        dropout_rate: in the residuals and on the weights of the attention.
    """

    def __init__(self, filters, kernel_size, num_residuals, attention, place, dropout_rate, **kwargs):
        super().__init__(**kwargs)
        self.attention, self.place, self.dropout_rate = attention, place, dropout_rate
        self.residuals = [
            GatedResidual(filters, kernel_size, place + 4 + index, dropout_rate, causal=True, name=f"res{index}")
            for index in range(num_residuals)
        ]

    def build(self, input_shape, condition_channels=0):
        channels = input_shape[-1]
        for residual in self.residuals:
            residual.build(input_shape, condition_channels=condition_channels)
        if not self.attention:
            self.out = NormConv2D(channels, 1, _RULE, name="out")
            self.out.build((None, None, None, channels + 2))
            return
        residuals = (
            ("key_res", 2 * channels + 2, 0),
            ("query_res", channels + 2, 0),
            ("out_res", channels, channels // 2),
        )
        for index, (name, width, aux_channels) in enumerate(residuals):
            layer = GatedResidual(channels, 1, self.place + index, self.dropout_rate, name=name)
            layer.build((None, None, None, width), aux_channels)
            setattr(self, name, layer)
        for name, width in (("query", channels + 2), ("key", 2 * channels + 2), ("value", 2 * channels + 2)):
            layer = NormDense(channels // 2, _RULE, name=name)
            layer.build((None, width))
            setattr(self, name, layer)

    def call(self, inputs, grid, condition=None, cursor=None):
        x = inputs
        for residual in self.residuals:
            x = residual(x, condition=condition, cursor=cursor)
        grid = tf.cast(tf.broadcast_to(grid, tf.concat([tf.shape(x)[:3], [2]], 0)), x.dtype)
        grid.set_shape([*x.shape[:3], 2])
        if not self.attention:
            return self.out(tf.concat([x, grid], axis=-1))
        key = self.key_res(tf.concat([inputs, x, grid], axis=-1))
        query = self.query_res(tf.concat([x, grid], axis=-1))
        return self.out_res(x, aux=self._attend(query, key, cursor))

    def _attend(self, query, key, cursor):
        """Attention [B, h, w, C/2] of each position to those before it; 0 at the first."""
        query, key, value = self.query(query), self.key(key), self.value(key)
        height, width, channels = query.shape[1:]
        if cursor is None:
            places = tf.range(height * width)
            seen = places < places[:, tf.newaxis]
        else:
            key, value = cursor.past(key), cursor.past(value)
            seen = tf.range(key.shape[1], 0, -1)[tf.newaxis] <= cursor.num_before
        query, key, value = (
            tf.reshape(x, [tf.shape(x)[0], -1, _HEADS, channels // _HEADS]) for x in (query, key, value)
        )
        scores = tf.cast(tf.einsum("bqhd,bkhd->bhqk", query, key), tf.float32) / math.sqrt(channels // _HEADS)
        weights = tf.nn.softmax(tf.where(seen, scores, _UNSEEN))
        weights *= tf.cast(tf.reduce_any(seen, axis=1, keepdims=True), tf.float32)  # the first sees nothing
        weights = dropout(tf.cast(weights, value.dtype), self.dropout_rate, self.place + 3)
        return tf.reshape(tf.einsum("bhqk,bkhd->bqhd", weights, value), [-1, height, width, channels])


class GatedStack(Layer):
    """Gated residuals that are not causal, before or after a convolution: the condition and the head of a `PixelSnail`.

    Args:
        conv: the convolution.
        filters, kernel_size, num_residuals, place, dropout_rate: of the residuals, see `CausalBlock`.
        conv_first: whether the convolution comes before the residuals, or after them and an ELU.
    """

    def __init__(self, conv, filters, kernel_size, num_residuals, place, dropout_rate, conv_first, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.conv_first = conv, conv_first
        self.residuals = [
            GatedResidual(filters, kernel_size, place + index, dropout_rate, name=f"res{index}")
            for index in range(num_residuals)
        ]

    def build(self, input_shape):
        self.conv.build(input_shape)
        channels = self.conv.filters if self.conv_first else input_shape[-1]
        for residual in self.residuals:
            residual.build((None, None, None, channels))

    def call(self, inputs):
        x = self.conv(inputs) if self.conv_first else inputs
        for residual in self.residuals:
            x = residual(x)
        return x if self.conv_first else self.conv(tf.nn.elu(x))
