"""PixelSNAIL: the autoregressive prior of a map of codes in VQ-VAE-2.

A network that is causal in raster order (Chen et al. 2018, arXiv 1712.09763) gives the logits of every code from the
codes before it, and from the map of half the size above it in the hierarchy.
"""

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.causal import CausalBlock, GatedStack
from nvae_tf.baselines.code_sampler import CodeSampler
from nvae_tf.baselines.weight_norm import NormConv2D, NormDense
from nvae_tf.layers.kernels import COMPUTE_DTYPE, given_kernels, setting
from nvae_tf.layers.layer import Layer

_RULE = "pixelsnail"


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
        padded = tf.pad(codes, [(0, 0), (side, 0), (side, side)], constant_values=-1)  # -1 stands for no code
        grid, one_hot = self.grid(*codes.shape[1:]), self.one_hot(padded)
        not_first = tf.cast(grid > -0.5, one_hot.dtype)  # in the first row, and in the first column, there is no bias
        x = self.above(one_hot[:, :-1]) * not_first[..., :1]
        x += self.left(one_hot[:, :, : -side - 1]) * not_first[..., 1:]
        return self.logits(x, grid, self.features(above))

    def nll(self, codes, above=None):
        """Negative log probability of maps of codes [B], nats."""
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(codes, self(codes, above))
        return tf.reduce_sum(losses, axis=(1, 2))

    def grid(self, height, width):
        """Position of each code, [1, h, w, 2]: row i/h - 1/2 and column j/w - 1/2."""
        sides = [np.arange(size) / size - 0.5 for size in (height, width)]
        return tf.constant(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)[np.newaxis], tf.float32)

    def features(self, above):
        """Features [B, h, w, condition_channels] of the codes of the map above, or None without one."""
        if self.condition is None:
            return None
        x = self.condition(self.one_hot(above))
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)

    def one_hot(self, codes):
        """Codes [B, h, w] as [B, h, w, K]; those below 0 as zeros."""
        return tf.one_hot(codes, self.num_codes, dtype=COMPUTE_DTYPE.get())

    def logits(self, x, grid, features=None, cursor=None):
        """Logits from what the first layers give, at all positions or at that of a `Cursor`.

        Args:
            x: [B, h, w, C].
            grid: positions, [1, h, w, 2].
            features: of the codes of the map above, [B, h, w, condition_channels]. Default None.
            cursor: `Cursor` if h = w = 1. Default None.

        Returns:
            float32 [B, h, w, K].
        """
        for block in self.blocks:
            x = block(x, grid=grid, condition=features, cursor=cursor)
        return tf.cast(self.head(x), tf.float32)

    def sample(self, uniform, above=None, temperature=1.0):
        """Draws codes one after the other, in float32.

        Args:
            uniform: numbers in [0, 1], [B, h, w]; each determines a code, by the inverse of the distribution function.
            above: codes of the map above, int [B, h/2, w/2], if there is one. Default None.
            temperature: the logits are divided by it; a number or a tensor [B]. Default 1.

        Returns:
            int32 [B, h, w].
        """
        layers = [layer for layer in self._flatten_layers() if isinstance(layer, (NormConv2D, NormDense))]
        with given_kernels(layers, [layer.kernel() for layer in layers]), setting(COMPUTE_DTYPE, "float32"):
            return CodeSampler(self, uniform, self.features(above), temperature).draw()
