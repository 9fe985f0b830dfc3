"""PixelSNAIL: the autoregressive prior of a map of codes in VQ-VAE-2.

A network that is causal in raster order (Chen et al. 2018, arXiv 1712.09763) gives the logits of every code from the
codes before it, and from the map of half the size above it in the hierarchy.
"""

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.causal import CausalBlock, Cursor, GatedStack
from nvae_tf.baselines.weight_norm import NormConv2D, NormDense
from nvae_tf.layers.kernels import COMPUTE_DTYPE, given_kernels
from nvae_tf.layers.layer import Layer

_RULE = "pixelsnail"


def _grid(height, width):
    """Position of each code, [1, h, w, 2]: row i/h - 1/2 and column j/w - 1/2."""
    sides = [np.arange(size) / size - 0.5 for size in (height, width)]
    return tf.constant(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)[np.newaxis], tf.float32)


def _cell(values, row, column):
    """The cell [B, 1, 1, C] of a map [B, h, w, C]."""
    return tf.slice(values, [0, row, column, 0], [values.shape[0] or -1, 1, 1, values.shape[-1]])


class PixelSnail(Layer):
    """Distribution of a map of codes, each given those before it in raster order.

    Args:
        num_codes: K, number of codes; the map above has as many.
        channels: C; a multiple of 16 with attention.
        residual_channels: channels between the convolutions of a residual.
        kernel_size: k of the causal convolutions, odd. Default 5.
        num_blocks, num_residuals: number of blocks, and of the causal residuals in each. Defaults 4.
        attention: whether the blocks have attention, whose cost grows with the square of the map's size. Default False.
        condition_channels: channels of the features of the map above, 0 if there is none. Default 0.
        condition_blocks: residuals in the network that computes these features. Default 3.
        output_blocks: residuals before the logits. Default 0.
        dropout_rate: in every residual and on the weights of the attention. Default 0.1.
        place: number of the first of its places in the model, for `dropout`; it has fewer than 1000. Default 0.

    Input: codes, int [B, h, w], and the codes of the map above, int [B, h/2, w/2]. Output: float32 logits [B, h, w, K].
    """

    def __init__(
        self,
        num_codes,
        channels,
        residual_channels,
        kernel_size=5,
        num_blocks=4,
        num_residuals=4,
        attention=False,
        condition_channels=0,
        condition_blocks=3,
        output_blocks=0,
        dropout_rate=0.1,
        place=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_codes, self.channels, self.kernel_size = num_codes, channels, kernel_size
        side = kernel_size // 2
        self.above = NormConv2D(channels, (side, kernel_size), _RULE, padding="VALID", name="above")
        self.left = NormConv2D(channels, (side + 1, side), _RULE, padding="VALID", name="left")
        self.blocks = [
            CausalBlock(
                residual_channels,
                kernel_size,
                num_residuals,
                attention,
                place + index * (4 + num_residuals),
                dropout_rate,
                name=f"block{index}",
            )
            for index in range(num_blocks)
        ]
        place += num_blocks * (4 + num_residuals)
        self.condition_channels, self.condition = condition_channels, None
        if condition_channels:
            conv = NormConv2D(condition_channels, 3, _RULE, name="conv")
            shape = condition_channels, 3, condition_blocks, place, dropout_rate
            self.condition = GatedStack(conv, *shape, conv_first=True, name="condition")
        logits = NormConv2D(num_codes, 1, _RULE, name="logits")
        shape = residual_channels, 1, output_blocks, place + condition_blocks, dropout_rate
        self.head = GatedStack(logits, *shape, conv_first=False, name="head")

    def build(self, input_shape=None):
        codes, features = (None, None, None, self.num_codes), (None, None, None, self.channels)
        for layer, shape in ((self.above, codes), (self.left, codes), (self.condition, codes), (self.head, features)):
            if layer is not None:
                layer.build(shape)
        for block in self.blocks:
            block.build(features, self.condition_channels)

    def call(self, codes, above=None):
        side = self.kernel_size // 2
        padded = tf.pad(codes, [(0, 0), (side, 0), (side, side)], constant_values=-1)
        return self._logits(padded, _grid(*codes.shape[1:]), self.features(above))

    def nll(self, codes, above=None):
        """Negative log probability of maps of codes [B], nats."""
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(codes, self(codes, above))
        return tf.reduce_sum(losses, axis=(1, 2))

    def features(self, above):
        """Features [B, h, w, condition_channels] of the codes of the map above, or None without one."""
        if self.condition is None:
            return None
        x = self.condition(self._one_hot(above))
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)

    def _one_hot(self, codes):
        return tf.one_hot(codes, self.num_codes, dtype=COMPUTE_DTYPE.get())

    def _logits(self, codes, grid, features, cursor=None):
        """Logits at the positions of `grid`.

        `codes` are the map with k//2 codes more above, left and right of the positions; -1 stands for none.
        """
        one_hot = self._one_hot(codes)
        not_first = tf.cast(grid > -0.5, one_hot.dtype)  # in the first row, and in the first column, there is no bias
        x = self.above(one_hot[:, :-1]) * not_first[..., :1]
        x += self.left(one_hot[:, :, : -(self.kernel_size // 2) - 1]) * not_first[..., 1:]
        for block in self.blocks:
            x = block(x, grid=grid, condition=features, cursor=cursor)
        return tf.cast(self.head(x), tf.float32)

    def sample(self, uniform, above=None, temperature=1.0):
        """Draws codes, one after the other.

        What does not change is computed once: the kernels, the features, and each layer's values at earlier positions.

        Args:
            uniform: numbers in [0, 1], [B, h, w]; each determines a code, by the inverse of the distribution function.
            above: codes of the map above, int [B, h/2, w/2], if there is one. Default None.
            temperature: the logits are divided by it; a number or a tensor [B]. Default 1.

        Returns:
            int32 [B, h, w].
        """
        batch_size, height, width = tf.shape(uniform)[0], *uniform.shape[1:]
        side, grid, features = self.kernel_size // 2, _grid(height, width), self.features(above)
        scale = 1.0 / tf.reshape(tf.cast(temperature, tf.float32), [-1, 1])
        normalized = [layer for layer in self._flatten_layers() if isinstance(layer, (NormConv2D, NormDense))]

        def draw(place, codes, *memories):
            row, column = place // width, place % width
            cursor = Cursor(row, column, place, memories)
            window = tf.slice(codes, [0, row, column], [batch_size, side + 1, self.kernel_size])
            window = tf.ensure_shape(window, [uniform.shape[0], side + 1, self.kernel_size])
            here = None if features is None else _cell(features, row, column)
            logits = self._logits(window, _cell(grid, row, column), here, cursor)[:, 0, 0]
            cumulative = tf.cumsum(tf.nn.softmax(logits * scale), axis=1)
            threshold = tf.slice(uniform, [0, row, column], [batch_size, 1, 1])[:, 0]
            code = tf.reduce_sum(tf.cast(cumulative <= threshold, tf.int32), axis=1)
            code = tf.minimum(code, self.num_codes - 1)  # the last sum may be below 1
            rows = tf.range(batch_size)
            where = tf.stack([rows, tf.fill([batch_size], row + side), tf.fill([batch_size], column + side)], axis=1)
            return place + 1, tf.tensor_scatter_nd_update(codes, where, code), *cursor.updated

        empty = tf.fill([batch_size, height + side, width + 2 * side], -1)
        start = (tf.constant(0), empty, *self.empty_memories(uniform.shape[0] or batch_size, height, width))
        with given_kernels(normalized, [layer.kernel() for layer in normalized]):
            # One at a time: see `evaluation.likelihood`.
            final = tf.while_loop(lambda place, *_: place < height * width, draw, start, parallel_iterations=1)
        return tf.ensure_shape(final[1][:, side:, side:-side], uniform.shape)

    def empty_memories(self, batch_size, height, width):
        """Memories for a `Cursor` at the first position."""
        size, memories = self.kernel_size, []
        padded = height + size - 1, width + 2 * (size // 2)
        for block in self.blocks:
            for residual in block.residuals:
                memories += [
                    tf.zeros([batch_size, *padded, channels]) for channels in (self.channels, residual.filters)
                ]
            if block.attention:
                memories += [tf.zeros([batch_size, height * width, self.channels // 2])] * 2
        return memories
