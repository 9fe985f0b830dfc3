"""Batches of images as a pure function of (seed, step): a run resumes at any step, and no iterator is ever saved."""

import numpy as np
import tensorflow as tf

from nvae_tf.data.image_set import ImageSet
from nvae_tf.data.stores import ArrayStore

# One stream of random numbers for each purpose, so that none shares its draws with another.
_ORDER, _FLIP, _BINARIZE, _EVAL_BINARIZE = range(4)

# Graphs of more decoders than this take long to make.
_MAX_UNROLLED = 256


def _image_set(images):
    """An `ImageSet` of what the functions below are given, an `ImageSet` or a uint8 array."""
    if isinstance(images, ImageSet):
        return images
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        received = f"{getattr(images, 'dtype', type(images).__name__)} of shape {np.shape(images)}"
        raise ValueError(f"images: expected a uint8 array [N, H, W, C] with N >= 1. Received: {received}")
    return ImageSet(ArrayStore(images, images.shape[3], "images")).load()


def _check_range(name, value, least, most=None):
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name}: expected {expected}. Received: {value!r}")


def _on_cpu(images):
    # A captured eager tensor is handed to the dataset by reference: the images are never part of a graph, whose
    # size is limited to 2 GB, and take no memory of an accelerator.
    with tf.device("CPU:0"):
        return tf.constant(images)


def _reader(images):
    """Function of int64 indices [B] that gives their images, uint8 [B, H, W, C], for a dataset's `map`."""
    if images.array is None:
        return lambda indices: _read_stored(images, indices, replace=True)[0]
    array = _on_cpu(images.array)
    return lambda indices: tf.gather(array, indices)


def _read_stored(images, indices, replace):
    """Images of a store and their indices: Python fetches the bytes of a batch at once, TensorFlow decodes them."""
    height, width, channels = images.image_shape
    sides = (images.padding, images.padding)
    stored = [height - 2 * images.padding, width - 2 * images.padding, channels]
    read, dtype = (images.read_encoded, tf.string) if images.encoded else (images.read_batch, tf.uint8)
    batch, kept = tf.numpy_function(lambda indices: read(indices, replace), [indices], (dtype, tf.int64))
    kept = tf.ensure_shape(kept, [None])
    if images.encoded:
        batch = _decode(tf.ensure_shape(batch, [None]), indices.shape[0] if replace else None, stored)
    batch = tf.ensure_shape(batch, [None, *stored])
    return tf.pad(batch, [(0, 0), sides, sides, (0, 0)]) if images.padding else batch, kept


def _decode(files, count, shape):
    """uint8 [B, H, W, C] of PNG files of one shape; `count` is B where it is known, else None."""

    def decode(data):
        return tf.ensure_shape(tf.io.decode_png(data, shape[-1]), shape)

    if count is None or count > _MAX_UNROLLED:
        return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec(shape, tf.uint8))
    # Written out, a tenth faster than a loop: the loop's bookkeeping costs that much beside a small image.
    return tf.stack([decode(data) for data in tf.unstack(files, num=count)])


def _stream(seed, purpose, *counters):
    key = tf.constant([seed, purpose], tf.int64)
    for counter in counters:
        key = tf.random.fold_in(key, tf.cast(counter, tf.int64), alg="philox")
    return key


def _uniform(shape, key):
    # A named algorithm: the default may differ between kinds of device.
    return tf.random.stateless_uniform(shape, key, alg="philox")


def _flip_half(images, key):
    flipped = _uniform([tf.shape(images)[0], 1, 1, 1], key) < 0.5
    return tf.where(flipped, tf.reverse(images, axis=[2]), images)


def _binarize(images, key):
    # u < 1, so that 255 is always white; black is never drawn white because the comparison is strict.
    white = _uniform(tf.shape(images), key) < tf.cast(images, tf.float32) / 255.0
    return tf.where(white, tf.constant(255, tf.uint8), tf.constant(0, tf.uint8))


def _to_unit_interval(images, bit_depth):
    # floor(255 x / 2^(8 - b)) / (2^b - 1): in integers the floor is a shift (arXiv 2007.03898, appendix A: 5 bits).
    if bit_depth < 8:  # a pass over the pixels that 8 bits do not need
        images = tf.bitwise.right_shift(images, tf.constant(8 - bit_depth, tf.uint8))
    return tf.cast(images, tf.float32) / (2.0**bit_depth - 1.0)


def steps_per_epoch(num_images, batch_size, num_shards=1):
    """Whole steps in one pass over the images; the remainder is dropped.

    Args:
        num_images: images of the training split.
        batch_size: images per shard and step.
        num_shards: replicas that share each step. Default 1.

    Returns:
        num_images // (batch_size * num_shards).

    Raises:
        ValueError: the images do not fill a single step.
    """
    _check_range("batch_size", batch_size, 1)
    _check_range("num_shards", num_shards, 1)
    steps = num_images // (batch_size * num_shards)
    if steps < 1:
        raise ValueError(
            f"train.batch_size: expected batch_size * replicas of at most {num_images}, the number of training images. "
            f"Received: {batch_size} * {num_shards}"
        )
    return steps


def _step_indices(num_images, batch_size, seed, start_step, num_shards, shard_indices):
    """Dataset of (step, indices [shards, batch_size]) from `start_step` on: shuffled each epoch, shards disjoint."""
    steps = steps_per_epoch(num_images, batch_size, num_shards)

    def one_epoch(epoch):
        # Not index_shuffle, which needs no memory: it knows only 256 different orders, whatever the seed.
        key = _stream(seed, _ORDER, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(num_images, dtype=tf.int64), key, alg="philox")
        order = tf.reshape(order[: steps * num_shards * batch_size], [steps, num_shards, batch_size])
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((numbers, tf.gather(order, shard_indices, axis=1)))

    epochs = tf.data.Dataset.counter(start_step // steps)
    return epochs.flat_map(one_epoch).skip(start_step % steps)


def train_batches(
    images, data_config, model_bit_depth, batch_size, seed, start_step=0, num_shards=1, shard_indices=(0,)
):
    """Endless batches of shuffled, augmented training images.

    Step s belongs to epoch s // steps_per_epoch. The order is drawn from (seed, epoch); flips and binarisation are
    drawn from (seed, step, shard), so that the batches from `start_step` on do not depend on where a run began.

    Args:
        images: `ImageSet`, or uint8 array [N, H, W, C].
        data_config: `DataConfig`; `binarize` draws every value as a Bernoulli anew in each epoch, and
            `horizontal_flip` mirrors each image with probability 1/2 (arXiv 2007.03898, appendix A).
        model_bit_depth: bits per value, 1 to 8.
        batch_size: images per shard and step.
        seed: of order and augmentation.
        start_step: the step of the first batch. Default 0.
        num_shards: replicas, of all workers together, that share each step. Default 1.
        shard_indices: which of them are here. Default (0,).

    Returns:
        Infinite `tf.data.Dataset` of tuples: float32 [batch_size, H, W, C] in [0, 1] for each of `shard_indices`.

    Raises:
        ValueError: an argument out of range, or fewer images than one step needs.
    """
    images = _image_set(images)
    _check_range("bit_depth", model_bit_depth, 1, 8)
    _check_range("start_step", start_step, 0)
    for shard in shard_indices:
        _check_range("shard_indices", shard, 0, num_shards - 1)
    steps = _step_indices(len(images), batch_size, seed, start_step, num_shards, shard_indices)
    binarize, flip = data_config.binarize, data_config.horizontal_flip
    read, count = _reader(images), len(shard_indices)

    def prepare(step, batch, shard):
        if flip:
            batch = _flip_half(batch, _stream(seed, _FLIP, step, shard))
        if binarize:
            batch = _binarize(batch, _stream(seed, _BINARIZE, step, shard))
        return _to_unit_interval(batch, model_bit_depth)

    def make_batches(step, indices):
        # All shards are read at once: each call of Python takes its time.
        batches = tf.reshape(read(tf.reshape(indices, [count * batch_size])), [count, batch_size, *images.image_shape])
        return tuple(prepare(step, batches[place], shard) for place, shard in enumerate(shard_indices))

    return steps.map(make_batches, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def eval_batches(images, data_config, model_bit_depth, batch_size, seed, num_images=None):
    """Every image exactly once, in order, never flipped; the last batch may be smaller. Damaged ones are left out.

    With `data_config.binarize` an image's draw depends on the seed and its index alone, so that a likelihood does
    not change with the batch size.

    Args:
        images: `ImageSet`, or uint8 array [N, H, W, C].
        data_config: `DataConfig`; only `binarize` counts here.
        model_bit_depth: bits per value, 1 to 8.
        batch_size: images per batch.
        seed: of the binarisation.
        num_images: only so many images, the first; None for all. Default None.

    Returns:
        `tf.data.Dataset` of float32 [at most batch_size, H, W, C] in [0, 1].

    Raises:
        ValueError: an argument out of range.
    """
    images = _image_set(images)
    _check_range("bit_depth", model_bit_depth, 1, 8)
    _check_range("batch_size", batch_size, 1)
    num_images = min(num_images or len(images), len(images))

    def prepare(image, index):
        if data_config.binarize:
            image = _binarize(image, _stream(seed, _EVAL_BINARIZE, index))
        return _to_unit_interval(image, model_bit_depth)

    prepared = _in_order(images, num_images, batch_size).map(prepare, tf.data.AUTOTUNE)
    return prepared.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _in_order(images, num_images, batch_size):
    """Dataset of (image, index) of the first images, the damaged ones left out."""
    if images.array is None:
        indices = tf.data.Dataset.range(num_images).batch(batch_size)
        return indices.map(lambda batch: _read_stored(images, batch, replace=False), tf.data.AUTOTUNE).unbatch()
    array = _on_cpu(images.array)
    good = np.setdiff1d(np.arange(num_images), sorted(images.damage.indices))
    return tf.data.Dataset.from_tensor_slices(good).map(lambda index: (array[index], index), tf.data.AUTOTUNE)
