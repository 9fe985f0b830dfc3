"""Vector quantisation with codebooks that are moving averages, as in VQ-VAE-2."""

import typing

import tensorflow as tf

from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.replicas import assign, num_replicas, replica_index, sum_over_replicas

_EPSILON = 1e-5  # of the Laplace smoothing
_MIN_COUNT = 0.01  # a code with a smaller count is no longer in use
_SEED = (0, 0)  # of the choice of the first vectors, which the run's seed has shuffled before


class Quantized(typing.NamedTuple):
    """Quantised vectors of a batch.

    Attributes:
        vectors: the nearest entries of the codebook [B, h, w, D], whose gradient passes straight to what was quantised.
        codes: their numbers, int32 [B, h, w].
        commitment: mean squared distance of the vectors to those entries, over h, w and D [B].
    """

    vectors: tf.Tensor
    codes: tf.Tensor
    commitment: tf.Tensor


class Quantizer(Layer):
    """Replaces each vector by the nearest entry of a codebook (Razavi et al. 2019, arXiv 1906.00446).

    The entries are not trained by gradients. In training each moves to the mean of the vectors that it stands for: with
    the counts n and sums s of a batch over all replicas, N <- 0.99 N + 0.01 n, M <- 0.99 M + 0.01 s, and the codebook
    is M / N with Laplace-smoothed N. The first batch of a training sets it to random vectors of the batch, with N = 1.

    Args:
        num_codes: K, size of the codebook.
        decay: of the moving averages. Default 0.99.

    Input: [B, h, w, D]. Output: `Quantized`; distances are in float32.

    Attributes:
        codebook, count, sum: E [K, D], N [K] and M [K, D], non-trainable.
    """

    def __init__(self, num_codes, decay=0.99, **kwargs):
        super().__init__(**kwargs)
        self.num_codes, self.decay = num_codes, decay

    def build(self, input_shape):
        shape = (self.num_codes, input_shape[-1])
        self.codebook = self._state(shape, "random_normal", "codebook")
        self.count = self._state(shape[:1], "ones", "count")
        self.sum = self._state(shape, lambda *_, **__: tf.convert_to_tensor(self.codebook), "sum")

    def _state(self, shape, initializer, name):
        return self.add_weight(shape=shape, initializer=initializer, trainable=False, name=name)

    @property
    def state(self):
        """The variables that a training pass assigns."""
        return [self.codebook, self.count, self.sum]

    def call(self, inputs, training=False):
        vectors = tf.cast(inputs, tf.float32)
        rows = tf.reshape(vectors, [-1, vectors.shape[-1]])
        starts = INITIALIZING_FROM_DATA.get()
        codebook = self._start_from(rows) if starts else tf.convert_to_tensor(self.codebook)
        distances = (
            tf.reduce_sum(tf.square(rows), axis=1, keepdims=True)
            - 2.0 * tf.matmul(rows, codebook, transpose_b=True)
            + tf.reduce_sum(tf.square(codebook), axis=1)
        )
        codes = tf.argmin(distances, axis=1, output_type=tf.int32)  # the lowest of equally near ones
        if training and not starts:
            self._update(rows, codes)
        codes = tf.reshape(codes, tf.shape(vectors)[:-1])
        codes.set_shape(vectors.shape[:-1])
        nearest = tf.gather(codebook, codes)
        commitment = tf.reduce_mean(tf.square(nearest - vectors), axis=(1, 2, 3))
        straight_through = inputs + tf.stop_gradient(tf.cast(nearest - vectors, inputs.dtype))
        return Quantized(straight_through, codes, commitment)

    def lookup(self, codes):
        """Entries of the codebook [B, h, w, D] for codes [B, h, w]."""
        return tf.gather(tf.convert_to_tensor(self.codebook), codes)

    def _update(self, rows, codes):
        """Moves N, M and E; the pass itself has taken its entries from the old E."""
        used = tf.one_hot(codes, self.num_codes)  # [B h w, K]
        added = [tf.reduce_sum(used, axis=0), tf.matmul(used, tf.stop_gradient(rows), transpose_a=True)]
        count, total = sum_over_replicas(added)
        count = self.decay * tf.convert_to_tensor(self.count) + (1.0 - self.decay) * count
        total = self.decay * tf.convert_to_tensor(self.sum) + (1.0 - self.decay) * total
        everything = tf.reduce_sum(count)
        smoothed = (count + _EPSILON) / (everything + self.num_codes * _EPSILON) * everything
        for variable, value in zip(self.state, (total / smoothed[:, tf.newaxis], count, total), strict=True):
            variable.assign(value)

    def _start_from(self, rows):
        """Sets E and M to random vectors of the batch of all replicas, none twice if there are enough, and N to 1."""
        size = tf.shape(rows)[0]
        order = tf.argsort(tf.random.stateless_uniform([num_replicas() * size], _SEED, alg="philox"))
        chosen = tf.gather(order, tf.range(self.num_codes) % tf.size(order)) - replica_index() * size
        here = (chosen >= 0) & (chosen < size)
        own = tf.gather(rows, tf.where(here, chosen, 0)) * tf.cast(here, tf.float32)[:, tf.newaxis]
        (codebook,) = sum_over_replicas([tf.stop_gradient(own)])
        for variable, value in zip(self.state, (codebook, tf.ones([self.num_codes]), codebook), strict=True):
            assign(variable, value)
        return codebook

    def codes_in_use(self):
        """Number of codes with N of at least 0.01, and perplexity exp(-sum u ln u) of their shares u of N."""
        count = tf.convert_to_tensor(self.count)
        share = count / tf.reduce_sum(count)
        used = tf.reduce_sum(tf.cast(count >= _MIN_COUNT, tf.float32))
        return used, tf.exp(-tf.reduce_sum(tf.math.xlogy(share, share)))
