"""Images that a caller passes as an array or a `tf.data.Dataset`, in the form that `batches` takes."""

import numpy as np
import tensorflow as tf

from nvae_tf.data.image_set import from_array

_EXPECTED = "images: expected uint8, or floating-point numbers in [0, 1]."


def given_images(images, image_shape, padding=0):
    """Converts images to those of a model.

    Args:
        images: array [N, h, w, C], or `tf.data.Dataset` of such batches, of single images, or of tuples whose first
            part they are; uint8, or floats in [0, 1], which are rounded to 8 bits; with or without padding.
        image_shape: (H, W, C) of the model, padding included.
        padding: zeros on every side of the model's images. Default 0.

    Returns:
        `ImageSet`, or `tf.data.Dataset` of single uint8 images [H, W, C]; and the padding that was added.

    Raises:
        ValueError: images of another type, shape or range. A data set raises `tf.errors.InvalidArgumentError` when it
            comes to a number out of range.
    """
    if isinstance(images, tf.data.Dataset):
        return _from_dataset(images.map(lambda images, *unused: images), image_shape, padding)
    array = np.asarray(images)
    added = _missing_padding(array.shape[1:], image_shape, padding)
    if array.dtype != np.uint8:
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if array.dtype.kind != "f" or not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"{_EXPECTED} Received: {array.dtype} of {low} to {high}")
        array = np.rint(array * 255.0).astype(np.uint8)
    return from_array(np.pad(array, [(0, 0), *_edges(added)]) if added else array), added


def number_of(given, images):
    """Number of images in what was given and became `images`; `ValueError` if a data set does not know its length."""
    if not isinstance(images, tf.data.Dataset):
        return len(images)
    if given.cardinality() < 0:
        raise ValueError("steps_per_epoch: expected a number, as the data set does not know its length. Received: None")
    count = int(images.cardinality())
    return int(images.reduce(0, lambda number, image: number + 1)) if count < 0 else count


def _from_dataset(dataset, image_shape, padding):
    dtype = dataset.element_spec.dtype
    dataset = dataset.unbatch() if dataset.element_spec.shape.rank == 4 else dataset
    added = _missing_padding(dataset.element_spec.shape, image_shape, padding)
    if dtype != tf.uint8 and not dtype.is_floating:
        raise ValueError(f"{_EXPECTED} Received: {dtype.name}")

    def convert(image):
        if dtype != tf.uint8:
            valid = tf.reduce_all((image >= 0.0) & (image <= 1.0))
            with tf.control_dependencies([tf.debugging.Assert(valid, [_EXPECTED, "Received:", image])]):
                image = tf.cast(tf.round(tf.cast(image, tf.float32) * 255.0), tf.uint8)
        return tf.pad(image, _edges(added)) if added else image

    return dataset.map(convert, tf.data.AUTOTUNE), added


def _edges(padding):
    return [(padding, padding), (padding, padding), (0, 0)]


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
