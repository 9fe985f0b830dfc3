"""Dropout whose masks are a function of the run's seed, the step and the place in the model."""

import contextvars

import tensorflow as tf

# Seed (int tensor [2]) of the masks of one step on one replica; None, outside of training, turns dropout off.
DROPOUT_SEED = contextvars.ContextVar("dropout_seed", default=None)


def dropout(x, rate, index):
    """Sets each value of `x` to 0 with probability `rate` and divides the others by 1 - rate (inverted dropout).

    Args:
        x: tensor of any shape and floating type.
        rate: number in [0, 1).
        index: int that no other place of the model has, so that the places have independent masks.

    Returns:
        A tensor like `x`; `x` itself without `DROPOUT_SEED`.
    """
    seed = DROPOUT_SEED.get()
    if seed is None or not rate:
        return x
    seed = tf.random.fold_in(seed, tf.constant(index, seed.dtype), alg="philox")
    # Drawn in float32: numbers of 8 bits would not fall below the rate with its probability.
    kept = tf.random.stateless_uniform(tf.shape(x), seed, alg="philox") >= rate
    return tf.where(kept, x / (1.0 - rate), tf.zeros_like(x))
