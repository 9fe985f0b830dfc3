"""Draws maps of codes from a `PixelSnail`, one code after the other, by about the operations of one pass over the map.

What does not change is computed once: the kernels, and the features of the map above. The values of the layers at
earlier positions are kept. What the causal convolutions get from the rows above, which is most of their work, is
computed for all positions of a row at once.
"""

import tensorflow as tf

_NONE = -1  # in the place of a code outside of the map


def _shifted(memory, value):
    """A memory [B, N, ...] of the last N values, with one more in the place of the oldest."""
    return tf.concat([memory[:, 1:], value], axis=1)


def _cell(values, row, column):
    """The cell [B, 1, 1, C] of a map [B, h, w, C]."""
    return tf.slice(values, [0, row, column, 0], [values.shape[0] or -1, 1, 1, values.shape[-1]])


def _loop(count, body, *state):
    """The state after `count` times `body(index, *state)`, which returns the new state."""
    # One at a time: see `evaluation.likelihood`.
    _, *state = tf.while_loop(
        lambda index, *_: index < count,
        lambda index, *state: (index + 1, *body(index, *state)),
        (0, *state),
        parallel_iterations=1,
    )
    return state


class Cursor:
    """A position of a map of codes, with what the layers have computed at those before.

    The layers compute the same at one position as at all of them at once. Where they look at other positions they ask
    the cursor, each time they are called in the same order.

    Args:
        column: of the position; int tensor.
        num_before: number of the positions before it in raster order; int tensor.
        from_above: what each causal convolution gets from the rows above in this row [B, 1, w, out].
        kernels: of each causal convolution, that to the left of a position.
        lines: for each causal convolution, the memory of the inputs that this kernel needs, and a `tf.TensorArray` of
            its inputs in this row.
        pasts: for each key and value of an attention, a memory of h w vectors.

    Attributes:
        new_lines, new_pasts: `lines` and `pasts` with the values at this position.
    """

    def __init__(self, column, num_before, from_above, kernels, lines, pasts):
        self.column, self.num_before = column, num_before
        self.new_lines, self.new_pasts = [], []
        self._convolutions, self._pasts = zip(from_above, kernels, lines, strict=True), iter(pasts)

    def convolve(self, x):
        """A causal convolution at this position, where its input is x [B, 1, 1, C]."""
        from_above, kernel, (left, inputs) = next(self._convolutions)
        self.new_lines.append((_shifted(left, x[:, 0]), inputs.write(self.column, x[:, 0, 0])))
        return _cell(from_above, 0, self.column) + tf.nn.conv2d(left[:, tf.newaxis], kernel, 1, "VALID")

    def past(self, x):
        """The memory [B, h w, C] of a vector whose value at this position is x [B, 1, 1, C], the latest last."""
        past = next(self._pasts)
        self.new_pasts.append(_shifted(past, x[:, 0]))
        return past


class CodeSampler:
    """Draws codes; its arguments are those of `PixelSnail.sample`, but with the features of the map above."""

    def __init__(self, prior, uniform, features, temperature):
        self.prior, self.uniform, self.features = prior, uniform, features
        self.scale = 1.0 / tf.reshape(tf.cast(temperature, tf.float32), [-1, 1])
        self.height, self.width = uniform.shape[1:]
        self.grid, self.side = prior.grid(self.height, self.width), prior.kernel_size // 2
        residuals = [residual for block in prior.blocks for residual in block.residuals]
        self.convolutions = [conv for residual in residuals for conv in (residual.conv1, residual.conv2)]
        self.kernels_above, self.kernels_left = zip(*(conv.split_kernel() for conv in self.convolutions), strict=True)
        self.channels = [kernel.shape[2] for kernel in self.kernels_left]

    def _full(self, shape, value=0.0):
        return tf.fill([self.uniform.shape[0] or tf.shape(self.uniform)[0], *shape], value)

    def draw(self):
        """The codes, int32 [B, h, w]."""
        side, padded = self.side, self.width + 2 * self.side
        codes = self._full([side + self.height, padded], _NONE)
        rows = [[self._full([1, padded, channels])] * 2 * side for channels in self.channels]
        num_pasts = sum(2 for block in self.prior.blocks if block.attention)
        pasts = [self._full([self.height * self.width, self.prior.channels // 2])] * num_pasts
        codes, *_ = _loop(self.height, self._draw_row, codes, rows, pasts)
        return tf.ensure_shape(codes[:, side:, side:-side], self.uniform.shape)

    def _draw_row(self, row, codes, rows, pasts):
        """Draws a row.

        Args:
            row: its number.
            codes: memory of the rows of codes, with k // 2 codes more on the left and on the right.
            rows: the inputs of each causal convolution in the k - 1 rows above [B, 1, w + 2 (k // 2), C].
            pasts: see `Cursor`.

        Returns:
            The new codes, rows and pasts.
        """
        side, above = self.side, codes[:, -self.side :]
        start = self.prior.above(self.prior.one_hot(above)) * tf.cast(row > 0, tf.float32)
        from_above = [
            tf.nn.conv2d(tf.concat(inputs, axis=1), kernel, 1, "VALID") + conv.bias
            for inputs, kernel, conv in zip(rows, self.kernels_above, self.convolutions, strict=True)
        ]

        def draw_code(column, line, lines, pasts):
            cursor = Cursor(column, row * self.width + column, from_above, self.kernels_left, lines, pasts)
            window = tf.slice(above, [0, 0, column], [tf.shape(above)[0], side, side])
            window = self.prior.one_hot(tf.concat([window, line[:, tf.newaxis, -side:]], axis=1))
            x = _cell(start, 0, column) + self.prior.left(window) * tf.cast(column > 0, tf.float32)
            features = None if self.features is None else _cell(self.features, row, column)
            logits = self.prior.logits(x, _cell(self.grid, row, column), features, cursor)[:, 0, 0]
            uniform = _cell(self.uniform[..., tf.newaxis], row, column)[:, 0, 0]
            return _shifted(line, self._invert(logits, uniform)), cursor.new_lines, cursor.new_pasts

        line = self._full([side + self.width], _NONE)
        lines = [
            (self._full([side, channels]), tf.TensorArray(tf.float32, self.width, element_shape=[None, channels]))
            for channels in self.channels
        ]
        line, lines, pasts = _loop(self.width, draw_code, line, lines, pasts)
        codes = _shifted(codes, tf.pad(line, [(0, 0), (0, side)], constant_values=_NONE)[:, tf.newaxis])
        new = [tf.transpose(inputs.stack(), [1, 0, 2])[:, tf.newaxis] for _, inputs in lines]
        new = [tf.pad(inputs, [(0, 0), (0, 0), (side, side), (0, 0)]) for inputs in new]
        return codes, [[*inputs[1:], last] for inputs, last in zip(rows, new, strict=True)], pasts

    def _invert(self, logits, uniform):
        """The codes [B, 1] at `uniform` [B, 1] of the distribution function."""
        cumulative = tf.cumsum(tf.nn.softmax(logits * self.scale), axis=1)
        code = tf.reduce_sum(tf.cast(cumulative <= uniform, tf.int32), axis=1, keepdims=True)
        return tf.minimum(code, self.prior.num_codes - 1)  # the last sum may be below 1
