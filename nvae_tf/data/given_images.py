"""Images that a caller passes as an array or a `tf.data.Dataset`, in the form that `batches` takes."""

import numpy as np
import tensorflow as tf

from nvae_tf.data.image_set import from_array

_EXPECTED = "images: expected uint8, or floating-point numbers in [0, 1]."


def given_images(images, image_shape, padding=0):
    """Converts images to those of a model.

    Args:
        images: array [N, h, w, C], or [N, h, w] for one channel, or `tf.data.Dataset` of batches, of single
            images, or of tuples whose first part they are; uint8, or floats in [0, 1], rounded to 8 bits; with
            or without padding.
        image_shape: (H, W, C) of the model, padding included.
        padding: zeros on every side of the model's images. Default 0.

    Returns:
        `ImageSet`, or `tf.data.Dataset` of single uint8 images [H, W, C]; and the padding that was added.

    Raises:
        ValueError: images of another type, shape or range. A data set raises `tf.errors.InvalidArgumentError` when it
            comes to a number out of range.
    """
    in_data_set = isinstance(images, tf.data.Dataset)
    if in_data_set:
        images = images.map(lambda images, *unused: images)
        images = images.batch(1) if images.element_spec.shape.rank == 3 else images
    else:
        images = np.asarray(images)
        if images.ndim == 3 and image_shape[-1] == 1:  # grey images, as keras.datasets.mnist has them
            images = images[..., np.newaxis]
    spec = images.element_spec if in_data_set else tf.TensorSpec(images.shape, images.dtype)
    if spec.dtype != tf.uint8 and not spec.dtype.is_floating:
        raise ValueError(f"{_EXPECTED} Received: {spec.dtype.name}")
    added = _missing_padding(tuple(spec.shape[1:]), image_shape, padding)

    def convert(batch):
        if spec.dtype != tf.uint8:
            valid = tf.reduce_all((batch >= 0.0) & (batch <= 1.0))
            with tf.control_dependencies([tf.debugging.Assert(valid, [_EXPECTED, "Received:", batch])]):
                batch = tf.cast(tf.round(tf.cast(batch, tf.float32) * 255.0), tf.uint8)
        return tf.pad(batch, [(0, 0), (added, added), (added, added), (0, 0)]) if added else batch

    if in_data_set:
        return images.map(convert, tf.data.AUTOTUNE).unbatch(), added
    try:
        with tf.device("CPU:0"):
            return from_array(np.asarray(convert(tf.constant(images)))), added
    except tf.errors.InvalidArgumentError:
        raise ValueError(f"{_EXPECTED} Received: {images.dtype} of {images.min()} to {images.max()}") from None


def number_of(given, images):
    """Number of images in what was given and became `images`; `ValueError` if a data set does not know its length."""
    if not isinstance(images, tf.data.Dataset):
        return len(images)
    if given.cardinality() < 0:
        raise ValueError("steps_per_epoch: expected a number, as the data set does not know its length. Received: None")
    count = int(images.cardinality())
    return int(images.reduce(0, lambda number, image: number + 1)) if count < 0 else count


def _missing_padding(shape, image_shape, padding):
    """Padding that images of a shape (h, w, C) lack."""
    height, width, channels = image_shape
    shape = tuple(shape)
    if shape == tuple(image_shape):
        return 0
    inner = (height - 2 * padding, width - 2 * padding, channels)
    if shape != inner:
        sizes = [f"[N, {', '.join(map(str, size))}]" for size in (*dict.fromkeys((tuple(image_shape), inner)), shape)]
        raise ValueError(f"images: expected shape {' or '.join(sizes[:-1])}. Received: {sizes[-1]}")
    return padding
