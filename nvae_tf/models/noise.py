"""The standard normals from which latents are drawn, and the path between two draws of them."""

import numpy as np
import tensorflow as tf

from nvae_tf.hierarchy import LATENTS, PURPOSE_BITS, SAMPLE_BITS, latent_levels


def draw_noise(shapes, seed=None):
    """Standard-normal tensors of the given shapes, with all rows drawn from one seed; used in training.

    Args:
        shapes: list of shapes [B, ...]; B may be a tensor.
        seed: int, or int tensor [2], that determines the draw; None for a fresh one.
    """
    if seed is None:
        seed = tf.random.uniform([2], 0, 2**31 - 1, tf.int32)
    elif isinstance(seed, (int, np.integer)):
        seed = tf.constant([seed, 0], tf.int64)
    # One draw for all groups, so that the number of ops does not grow with the depth.
    noise = tf.random.stateless_normal([shapes[0][0], _num_values(shapes)], seed, alg="philox")
    return _split(noise, shapes)


def to_float32(name, values):
    """Converts to a float32 tensor; rejects integers, because they may be pixels of 0 to 255 and not in [0, 1]."""
    values = tf.convert_to_tensor(values)
    if not values.dtype.is_floating:
        raise ValueError(f"{name}: expected floating-point numbers. Received: {values.dtype.name}")
    return tf.cast(values, tf.float32)


def check_per_group(name, tensors, shapes):
    """Converts to one float32 tensor of shape [B, ...] for each group; raises `ValueError` if the shapes differ."""
    if len(tensors) != len(shapes):
        raise ValueError(f"{name}: expected {len(shapes)} tensors, one for each group. Received: {len(tensors)}")
    tensors = [to_float32(f"{name}[{index}]", tensor) for index, tensor in enumerate(tensors)]
    for index, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        expected = [tf.get_static_value(shape[0]), *shape[1:]]
        if not tensor.shape.is_compatible_with(expected):
            raise ValueError(f"{name}[{index}]: expected shape {expected}. Received: {tensor.shape}")
    return tensors


def group_temperatures(temperature, config):
    """A temperature for each latent, from one, or from a list of one, one for each scale or one for each latent.

    Raises `ValueError` if a temperature is not positive and finite, or for another number of them.
    """
    values = list(temperature) if isinstance(temperature, (list, tuple)) else [temperature]
    for value in values:
        if not tf.is_tensor(value) and not 0.0 < value < float("inf"):
            raise ValueError(f"temperature: expected a positive, finite number. Received: {value}")
    scales = latent_levels(config)
    num_scales, num_groups = scales[-1] + 1, len(scales)
    if len(values) in (1, num_groups):
        return values * (num_groups // len(values))
    if len(values) == num_scales:
        return [values[scale] for scale in scales]
    raise ValueError(
        f"temperature: expected one, {num_scales} (one for each scale) or {num_groups} (one for each group). "
        f"Received: {len(values)}"
    )


def row_keys(seed, index, sample=0, purpose=LATENTS):
    """Keys of the noise of rows, independent of the batch that the rows are in.

    Args:
        seed: int, or int64 tensor [B].
        index: number of the image in its data set or among the images drawn, int64 tensor [B], below 2^36.
        sample: number of the draw for the image, int or int64 tensor [B], below 2^24. Default 0.
        purpose: `LATENTS` or `PIXELS`. Default `LATENTS`.

    Returns:
        int64 [B, 2].
    """
    index = tf.cast(index, tf.int64)
    counter = (purpose << PURPOSE_BITS) + index * 2**SAMPLE_BITS + tf.cast(sample, tf.int64)
    return tf.stack([tf.broadcast_to(tf.cast(seed, tf.int64), tf.shape(counter)), counter], axis=1)


def keyed_noise(shapes, keys):
    """Standard-normal tensors in which each row depends only on its key: it is identical in any batch and process.

    Args:
        shapes: list of shapes [B, ...].
        keys: int64 [B, 2], from `row_keys`.
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


def slerp(first, second, fraction):
    """Spherical interpolation of each row: the direction turns evenly and the norm changes evenly.

    Two standard normals with many values have nearly the same norm, but points on the line between them are shorter.

    Args:
        first, second: arrays or tensors [B, ...].
        fraction: [B], 0 for `first` to 1 for `second`.

    Returns:
        float32 tensor [B, ...], equal to the two ends at fractions 0 and 1. A zero row takes the direction of the other
        end; between opposite ends, where no path is shortest, the direction turns through a fixed third one.
    """
    first, second = (tf.cast(end, tf.float32) for end in (first, second))
    shape = tf.shape(first)
    one, other = (tf.reshape(end, [shape[0], -1]) for end in (first, second))
    fraction = tf.cast(fraction, tf.float32)[:, tf.newaxis]
    norms = [tf.norm(end, axis=1, keepdims=True) for end in (one, other)]
    from_unit, to_unit = (
        _unit(tf.where(norm > 0.0, end, one + other)) for norm, end in zip(norms, (one, other), strict=True)
    )
    cosine = tf.reduce_sum(from_unit * to_unit, axis=1, keepdims=True)
    across = to_unit - cosine * from_unit
    sine = tf.norm(across, axis=1, keepdims=True)
    # Parallel ends need no direction to turn in; opposite ends turn towards the axis where `from_unit` is smallest.
    axis = tf.one_hot(tf.argmin(tf.abs(from_unit), axis=1), tf.shape(one)[1])
    axis -= tf.reduce_sum(axis * from_unit, axis=1, keepdims=True) * from_unit
    across = _unit(tf.where(sine < 1e-6, axis, across))
    angle = fraction * tf.atan2(sine, cosine)
    between = tf.cos(angle) * from_unit + tf.sin(angle) * across
    between *= (1.0 - fraction) * norms[0] + fraction * norms[1]
    between = tf.where(fraction <= 0.0, one, tf.where(fraction >= 1.0, other, between))
    return tf.reshape(between, shape)


def _unit(rows):
    return tf.math.divide_no_nan(rows, tf.norm(rows, axis=1, keepdims=True))
