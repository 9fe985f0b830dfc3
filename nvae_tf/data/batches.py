"""Batches of images as a pure function of (seed, step): a run can resume at any step, and no iterator is saved."""

import functools

import tensorflow as tf

from nvae_tf.data.image_set import ImageSet, from_array

# One stream of random numbers for each purpose, so that no draw is used twice.
_ORDER, _FLIP, _BINARIZE, _EVAL_BINARIZE = range(4)

# Graphs with more decoders than this take too long to build.
_MAX_UNROLLED = 256


def _reader(images, count=None):
    """Function of int64 image numbers [B] that returns uint8 images [B, H, W, C]; `count` is B if it is known."""
    if images.array is not None:
        # A captured eager tensor is passed to the dataset by reference: the images are never part of a graph, whose
        # size is limited to 2 GB, and take no accelerator memory.
        with tf.device("CPU:0"):
            return functools.partial(tf.gather, tf.constant(images.array))
    height, width, channels = images.image_shape
    padding = images.padding
    stored = [height - 2 * padding, width - 2 * padding, channels]

    def read(numbers):
        # Python reads the bytes of a whole batch, and TensorFlow decodes them.
        batch = _decode(
            tf.ensure_shape(tf.numpy_function(images.read_pngs, [numbers], tf.string), [count]), count, stored
        )
        return tf.pad(batch, [(0, 0), (padding, padding), (padding, padding), (0, 0)]) if padding else batch

    return read


def _decode(files, count, shape):
    """Decodes PNG files of one shape to uint8 [B, H, W, C]; `count` is B if it is known."""

    def decode(data):
        return tf.ensure_shape(tf.io.decode_png(data, shape[-1]), shape)

    if count is None or count > _MAX_UNROLLED:
        return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec(shape, tf.uint8))
    # Unrolled, because a loop takes 10% longer for small images.
    return tf.stack([decode(data) for data in tf.unstack(files, num=count)])


def _stream(seed, purpose, *counters):
    key = tf.constant([seed, purpose], tf.int64)
    for counter in counters:
        key = tf.random.fold_in(key, tf.cast(counter, tf.int64), alg="philox")
    return key


def _uniform(shape, key):
    # The algorithm is named because the default may differ between kinds of device.
    return tf.random.stateless_uniform(shape, key, alg="philox")


def _flip_half(images, key):
    flipped = _uniform([tf.shape(images)[0], 1, 1, 1], key) < 0.5
    return tf.where(flipped, tf.reverse(images, axis=[2]), images)


def _binarize(images, key):
    # u < 1, so 255 is always drawn white; the comparison is strict, so 0 is always drawn black.
    white = _uniform(tf.shape(images), key) < tf.cast(images, tf.float32) / 255.0
    return tf.where(white, tf.constant(255, tf.uint8), tf.constant(0, tf.uint8))


def _to_unit_interval(images, bit_depth):
    # floor(255 x / 2^(8 - b)) / (2^b - 1): in integers the floor is a shift (arXiv 2007.03898, appendix A: 5 bits).
    if bit_depth < 8:  # 8 bits do not need this pass over the pixels
        images = tf.bitwise.right_shift(images, tf.constant(8 - bit_depth, tf.uint8))
    return tf.cast(images, tf.float32) / (2.0**bit_depth - 1.0)


def steps_per_epoch(num_images, batch_size, num_shards=1):
    """Number of complete steps in one pass over the images: num_images // (batch_size * num_shards).

    `num_shards` replicas share each step. Raises ValueError if the images do not fill a single step.
    """
    steps = num_images // (batch_size * num_shards)
    if steps < 1:
        raise ValueError(
            f"train.batch_size: expected batch_size * replicas of at most {num_images}, the number of training images. "
            f"Received: {batch_size} * {num_shards}"
        )
    return steps


def _step_indices(num_images, batch_size, seed, start_step, num_shards, shard_indices):
    """Dataset of (step, numbers [shards, batch_size]), shuffled each epoch; no image is in two shards of an epoch."""
    steps = steps_per_epoch(num_images, batch_size, num_shards)

    def one_epoch(epoch):
        # Not index_shuffle, which needs no memory but has only 256 different orders, regardless of the seed.
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

    Step s belongs to epoch s // steps_per_epoch. The order is drawn from (seed, epoch), flips and binarisation from
    (seed, step, shard), so that a batch does not depend on the step at which a run was resumed.

    Args:
        images: `ImageSet`, uint8 array [N, H, W, C], or `tf.data.Dataset` of single uint8 images [H, W, C], which are
            taken in the order in which they come, again and again; the incomplete step at their end is left out.
        data_config: `DataConfig`; `binarize` draws each value from a Bernoulli distribution, afresh in each epoch;
            `horizontal_flip` mirrors each image with probability 1/2 (arXiv 2007.03898, appendix A).
        model_bit_depth: bits per value, 1 to 8.
        batch_size: images per shard and step.
        seed: seed of order and augmentation.
        start_step: step of the first batch. Default 0.
        num_shards: number of replicas, over all workers, that share each step. Default 1.
        shard_indices: replicas of this worker. Default (0,).

    Returns:
        Infinite `tf.data.Dataset` of tuples: float32 [batch_size, H, W, C] in [0, 1] for each of `shard_indices`.

    Raises:
        ValueError: fewer images than one step needs.
    """
    binarize, flip = data_config.binarize, data_config.horizontal_flip
    if isinstance(images, tf.data.Dataset):
        steps = (
            images.batch(batch_size, drop_remainder=True).batch(num_shards, drop_remainder=True).repeat().enumerate()
        )
    else:
        images = images if isinstance(images, ImageSet) else from_array(images)
        count = len(shard_indices)
        read = _reader(images, count * batch_size)
        indices = _step_indices(len(images), batch_size, seed, start_step, num_shards, shard_indices)

        def read_step(step, numbers):
            # All shards are read at once, because each call into Python takes time.
            batches = read(tf.reshape(numbers, [count * batch_size]))
            return step, tf.reshape(batches, [count, batch_size, *images.image_shape])

        steps = indices.map(read_step, num_parallel_calls=tf.data.AUTOTUNE)

    def prepare(step, batch, shard):
        if flip:
            batch = _flip_half(batch, _stream(seed, _FLIP, step, shard))
        if binarize:
            batch = _binarize(batch, _stream(seed, _BINARIZE, step, shard))
        return _to_unit_interval(batch, model_bit_depth)

    def make_batches(step, batches):
        return tuple(prepare(step, batches[place], shard) for place, shard in enumerate(shard_indices))

    return steps.map(make_batches, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def row_batches(rows, batch_size, seed, start_step=0, num_shards=1, shard_indices=(0,)):
    """Endless batches of the shuffled rows of an array [N, ...], in the order of `train_batches`, as whose they are."""
    with tf.device("CPU:0"):  # see `_reader`
        read = functools.partial(tf.gather, tf.constant(rows))
    indices = _step_indices(len(rows), batch_size, seed, start_step, num_shards, shard_indices)
    count = len(shard_indices)
    return indices.map(lambda step, numbers: tuple(tf.unstack(read(numbers), num=count))).prefetch(tf.data.AUTOTUNE)


def eval_batches(images, data_config, model_bit_depth, batch_size, seed, num_images=None, first=0):
    """Batches with every image exactly once, in order and never flipped. Damaged images are left out.

    With `data_config.binarize` the draw of an image depends only on the seed and the image's number, so that a
    likelihood does not change with the batch size.

    Args:
        images: `ImageSet`, uint8 array [N, H, W, C], or `tf.data.Dataset` of single uint8 images [H, W, C].
        data_config: `DataConfig`, of which only `binarize` is used.
        model_bit_depth: bits per value, 1 to 8.
        batch_size: images per batch; the last batch may be smaller.
        seed: seed of the binarisation.
        num_images: use only the first `num_images`; None for all. Default None.
        first: number of the first image, if these are a part of a split. Default 0.

    Returns:
        `tf.data.Dataset` of float32 [at most batch_size, H, W, C] in [0, 1].
    """

    def prepare(number, image):
        if data_config.binarize:
            image = _binarize(image, _stream(seed, _EVAL_BINARIZE, first + number))
        return _to_unit_interval(image, model_bit_depth)

    if isinstance(images, tf.data.Dataset):
        stored = images.enumerate()
    else:
        images = images if isinstance(images, ImageSet) else from_array(images)
        good, read = images.good, _reader(images)
        numbers = tf.data.Dataset.from_tensor_slices(good[good < (num_images or len(images))]).batch(batch_size)
        stored = numbers.map(lambda batch: (batch, read(batch)), tf.data.AUTOTUNE).unbatch()
    return stored.map(prepare, tf.data.AUTOTUNE).batch(batch_size).prefetch(tf.data.AUTOTUNE)
