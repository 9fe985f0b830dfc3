"""The standard normals that latents are made from."""

import numpy as np
import tensorflow as tf

# Counters of one purpose never meet those of another: an index takes the bits below.
_PURPOSE_BITS = 60
_COUNTER_BITS = 24
LATENTS, PIXELS = range(2)
MAX_SAMPLES = 2**_COUNTER_BITS


def draw_noise(shapes, seed=None):
    """Standard-normal tensors of the given shapes, all rows from one seed: for training.

    Args:
        shapes: list of shapes [B, ...]; B may be a tensor.
        seed: int, or int tensor [2], that decides the draw; None for a fresh one.
    """
    if seed is None:
        seed = tf.random.uniform([2], 0, 2**31 - 1, tf.int32)
    elif isinstance(seed, (int, np.integer)):
        seed = tf.constant([seed, 0], tf.int64)
    # One draw for all groups: the number of ops does not grow with the depth.
    noise = tf.random.stateless_normal([shapes[0][0], _num_values(shapes)], seed, alg="philox")
    return _split(noise, shapes)


def row_keys(seed, index, sample=0, purpose=LATENTS):
    """Keys of rows that have nothing to do with the batch they are in.

    Args:
        seed: int, or int64 tensor [B].
        index: of the image in its data set or among the images drawn, int64 tensor [B], below 2^36.
        sample: which draw for that image, int or int64 tensor [B], below 2^24. Default 0.
        purpose: `LATENTS` or `PIXELS`. Default `LATENTS`.

    Returns:
        int64 [B, 2].
    """
    index = tf.cast(index, tf.int64)
    counter = (purpose << _PURPOSE_BITS) + index * 2**_COUNTER_BITS + tf.cast(sample, tf.int64)
    return tf.stack([tf.broadcast_to(tf.cast(seed, tf.int64), tf.shape(counter)), counter], axis=1)


def keyed_noise(shapes, keys):
    """Standard-normal tensors whose every row depends on its key alone: the same bits in any batch and process.

    Args:
        shapes: list of shapes [B, ...].
        keys: int64 [B, 2], as of `row_keys`.
    """
    size = _num_values(shapes)
    noise = tf.map_fn(
        lambda key: tf.random.stateless_normal([size], key, alg="philox"),
        keys,
        fn_output_signature=tf.TensorSpec([size], tf.float32),
    )
    return _split(noise, shapes)


def _num_values(shapes):
    return sum(int(np.prod(shape[1:])) for shape in shapes)


def _split(noise, shapes):
    parts = tf.split(noise, [int(np.prod(shape[1:])) for shape in shapes], axis=1)
    return [tf.reshape(part, [-1, *shape[1:]]) for part, shape in zip(parts, shapes, strict=True)]
