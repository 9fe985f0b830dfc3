"""Spectral and batch-norm regularisation (paper section 3.2, "spectral regularization").

Both work on stacks of tensors of one shape, so that the number of ops does not grow with the depth of the model.
"""

import keras
import tensorflow as tf

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

    def iterate(self, effective_kernels, rounds=None):
        """Runs the power iteration and stores the vectors.

        Args:
            effective_kernels: stacks [n, kh, kw, in, out], in the order of the kernel stacks.
            rounds: number of rounds; if None, 40 the first time and 4 after that. Default None.

        Returns:
            Pairs of left and right vectors, u [n, out, 1] and v [n, kh * kw * in, 1].
        """
        if rounds is None:
            rounds = tf.where(tf.convert_to_tensor(self.started) > 0, ROUNDS_PER_STEP, FIRST_ROUNDS)
        vectors = [tf.convert_to_tensor(vector) for pair in self.pairs for vector in pair]
        matrices = [self._matrix(kernels) for kernels in effective_kernels]

        def one_round(i, us, vs):
            vs = [_unit(tf.matmul(matrix, u)) for matrix, u in zip(matrices, us, strict=True)]
            us = [_unit(tf.matmul(matrix, v, transpose_a=True)) for matrix, v in zip(matrices, vs, strict=True)]
            return i + 1, us, vs

        us, vs = [_unit(u) for u in vectors[0::2]], [_unit(v) for v in vectors[1::2]]
        _, us, vs = tf.while_loop(lambda i, *_: i < rounds, one_round, (0, us, vs), parallel_iterations=1)
        for (u_variable, v_variable), u, v in zip(self.pairs, us, vs, strict=True):
            assign(u_variable, u)
            assign(v_variable, v)
        assign(self.started, 1.0)
        return list(zip(us, vs, strict=True))

    @staticmethod
    def _matrix(kernels):
        shape = kernels.shape
        return tf.reshape(kernels, [shape[0], shape[1] * shape[2] * shape[3], shape[4]])  # transposed: [n, K, out]

    def call(self, effective_kernels, vectors):
        """Sum of u^T W v, with the pairs (u, v) from `iterate`; gradients reach the kernels, not the vectors."""
        sums = []
        for kernels, (u, v) in zip(effective_kernels, vectors, strict=True):
            u, v = tf.stop_gradient(u), tf.stop_gradient(v)
            response = tf.matmul(self._matrix(kernels), v, transpose_a=True)  # [n, out, 1]
            sums.append(tf.reduce_sum(u * response))
        return tf.add_n(sums)


def batch_norm_regularization(scales):
    """Sum over batch norms of the largest absolute scale, from stacks [n, C] of their scales."""
    sums = [tf.reduce_sum(tf.reduce_max(tf.abs(stack), axis=1)) for stack in scales]
    return tf.add_n(sums) if sums else tf.zeros([])  # the cell set res_elu has no batch norms
