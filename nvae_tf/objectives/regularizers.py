"""Spectral and batch-norm regularisation (paper section 3.2, "spectral regularization").

Both work on stacks of tensors of one shape, so that the number of ops does not grow with the depth of the model.
"""

import keras
import tensorflow as tf

from nvae_tf.layers.kernels import group_by
from nvae_tf.layers.replicas import assign

_MIN_NORM_SQUARED = 1e-6  # (1e-3)^2
ROUNDS_PER_STEP = 4
FIRST_ROUNDS = 40


def _unit(vectors):
    # [n, m, 1], each divided by max(its norm, 1e-3)
    squared = tf.reduce_sum(tf.square(vectors), axis=1, keepdims=True)
    return vectors * tf.math.rsqrt(tf.maximum(squared, _MIN_NORM_SQUARED))


class SpectralRegularizer(keras.layers.Layer):
    """Sum over all convolutions of the largest singular value of the effective kernel, by power iteration.

    A kernel is treated as the matrix (out, in/groups * kh * kw). The vectors of the iteration are state: non-trainable
    variables, one pair for each kernel stack, which should be saved with the run.

    Args:
        kernel_stacks: `KernelStack`s of the model.
        seed: seed of the initial vectors. Default 0.
    """

    def __init__(self, kernel_stacks, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.pairs = []
        for index, kernels in enumerate(kernel_stacks):
            kh, kw, channels, filters = kernels.layers[0].kernel.shape
            count = len(kernels.layers)
            vectors = []
            for side, (letter, size) in enumerate((("u", filters), ("v", kh * kw * channels))):
                normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed + 2 * index + side)
                name = f"{letter}_{index}"
                vectors.append(self.add_weight((count, size, 1), normal, trainable=False, autocast=False, name=name))
            self.pairs.append(tuple(vectors))
        self.started = self.add_weight(shape=(), initializer="zeros", trainable=False, autocast=False, name="started")
        self.built = True

    def call(self, effective_kernels, rounds=None):
        """Runs the power iteration, stores its vectors, and returns the sum of u^T W v.

        Gradients reach the kernels, not the vectors.

        Args:
            effective_kernels: stacks [n, kh, kw, in, out], in the order of the kernel stacks.
            rounds: number of rounds, at least 1; if None, 40 the first time and 4 after that. Default None.
        """
        if rounds is None:
            rounds = tf.where(tf.convert_to_tensor(self.started) > 0, ROUNDS_PER_STEP, FIRST_ROUNDS)
        matrices = [self._matrix(kernels) for kernels in effective_kernels]
        values = []
        starts = [_unit(tf.convert_to_tensor(u)) for u, _ in self.pairs]
        vectors = _power_iteration([tf.stop_gradient(matrix) for matrix in matrices], starts, rounds)
        for (u_variable, v_variable), matrix, (u, v, value) in zip(self.pairs, matrices, vectors, strict=True):
            assign(u_variable, u)
            assign(v_variable, v)
            values.append(_bilinear(matrix, u, v, value))
        assign(self.started, 1.0)
        return tf.add_n(values)

    @staticmethod
    def _matrix(kernels):
        shape = kernels.shape
        return tf.reshape(kernels, [shape[0], shape[1] * shape[2] * shape[3], shape[4]])  # transposed: [n, K, out]


def _power_iteration(matrices, us, rounds):
    """Rounds v <- unit(W u), u <- unit(W^T v) for matrices W [n, K, out] and unit vectors u [n, out, 1].

    All but one run on the smaller of W^T W and W W^T, and those of one size together. Returns u, v and the sum of
    u^T W^T v for each stack.
    """
    tall = [matrix.shape[2] <= matrix.shape[1] for matrix in matrices]
    # [n, m, 1] with m = min(K, out): u, or v after its first half round.
    vectors = [u if is_tall else _unit(w @ u) for is_tall, w, u in zip(tall, matrices, us, strict=True)]
    grams = [tf.matmul(w, w, transpose_a=one, transpose_b=not one) for one, w in zip(tall, matrices, strict=True)]
    groups = group_by(range(len(grams)), lambda i: grams[i].shape[1])
    stacked = [tf.concat([grams[i] for i in group], axis=0) for group in groups]

    def one_round(i, *xs):
        following = []
        for gram, x in zip(stacked, xs, strict=True):
            y = gram @ x
            # With the matrix G, x^T G x is the squared norm of the half round that is left out.
            squared = tf.reduce_sum(x * y, axis=1, keepdims=True)
            following.append(_unit(y * tf.math.rsqrt(tf.maximum(squared, _MIN_NORM_SQUARED))))
        return i + 1, *following

    xs = [tf.concat([vectors[i] for i in group], axis=0) for group in groups]
    _, *xs = tf.while_loop(lambda i, *_: i < rounds - 1, one_round, (0, *xs), parallel_iterations=1)
    for group, x in zip(groups, xs, strict=True):
        for i, part in zip(group, tf.split(x, [vectors[i].shape[0] for i in group]), strict=True):
            vectors[i] = part
    results = []
    for is_tall, w, x in zip(tall, matrices, vectors, strict=True):
        v = _unit(w @ x) if is_tall else x
        response = tf.matmul(w, v, transpose_a=True)
        u = _unit(response)
        results.append((u, v, tf.reduce_sum(u * response)))
    return results


@tf.custom_gradient
def _bilinear(matrix, u, v, value):
    """The sum over n of u^T W^T v, whose value is known; the gradient reaches W [n, K, out] only."""
    return value, lambda upstream: (v @ tf.linalg.matrix_transpose(upstream * u), None, None, None)


def batch_norm_regularization(scales):
    """Sum over batch norms of the largest absolute scale, from stacks [n, C] of their scales."""
    sums = [tf.reduce_sum(tf.reduce_max(tf.abs(stack), axis=1)) for stack in scales]
    return tf.add_n(sums) if sums else tf.zeros([])  # the cell set res_elu has no batch norms
