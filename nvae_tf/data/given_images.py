"""Images that a caller passes as an array or a `tf.data.Dataset`, in the form that `batches` takes."""

import numpy as np
import tensorflow as tf

from nvae_tf.data.image_set import from_array

_EXPECTED = "images: expected uint8, or floating-point numbers in [0, 1]."


def given_images(images, image_shape, padding=0):
    """Converts images to those of a model: uint8, with padding.

    Args:
        images: array [N, h, w, C], or `tf.data.Dataset` of such batches or of single images; only the first part of a
            tuple counts. uint8, or floats in [0, 1], which are rounded to 8 bits.
        image_shape: (H, W, C) of the model, padding included.
        padding: zeros on every side of the model's images; the given images may come without them. Default 0.

    Returns:
        `ImageSet` of an array, or `tf.data.Dataset` of single images [H, W, C]; and the padding that was added.

    Raises:
        ValueError: images of another type, shape or range; in a data set `tf.errors.InvalidArgumentError` for a
            number that is not in [0, 1].
    """
    if isinstance(images, tf.data.Dataset):
        return _from_dataset(images, image_shape, padding)
    array = np.asarray(images)
    added = _missing_padding(array.shape[1:], image_shape, padding)
    if array.dtype != np.uint8:
        if array.dtype.kind != "f" or not (array.min(initial=0.0) >= 0.0 and array.max(initial=0.0) <= 1.0):
            ends = f" of {array.min()} to {array.max()}" if array.size else ""
            raise ValueError(f"{_EXPECTED} Received: {array.dtype}{ends}")
        array = np.rint(array * 255.0).astype(np.uint8)
    return from_array(np.pad(array, _edges(added, 1)) if added else array), added


def number_of(images):
    """Number of images that `given_images` returned; None for an endless data set."""
    if not isinstance(images, tf.data.Dataset):
        return len(images)
    count = int(images.cardinality())
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = int(images.reduce(np.int64(0), lambda number, image: number + 1))
    return None if count == tf.data.INFINITE_CARDINALITY else count


def _from_dataset(dataset, image_shape, padding):
    dataset = dataset.map(lambda images, *unused: images)
    spec = dataset.element_spec
    if spec.shape.rank == 4:
        dataset = dataset.unbatch()
    shape = dataset.element_spec.shape
    added = _missing_padding(tuple(shape) if shape.rank else (), image_shape, padding)
    if spec.dtype != tf.uint8 and not spec.dtype.is_floating:
        raise ValueError(f"{_EXPECTED} Received: {spec.dtype.name}")

    def convert(image):
        if image.dtype != tf.uint8:
            valid = tf.reduce_all((image >= 0.0) & (image <= 1.0))
            with tf.control_dependencies([tf.debugging.Assert(valid, [_EXPECTED, "Received:", image])]):
                image = tf.cast(tf.round(tf.cast(image, tf.float32) * 255.0), tf.uint8)
        return tf.pad(image, _edges(added, 0)) if added else image

    return dataset.map(convert, tf.data.AUTOTUNE), added


def _edges(padding, batch_axes):
    return [(0, 0)] * batch_axes + [(padding, padding), (padding, padding), (0, 0)]


def _missing_padding(shape, image_shape, padding):
    """Padding that images of a shape (h, w, C) lack."""
    height, width, channels = image_shape
    sizes = {(height, width, channels): 0}
    sizes.setdefault((height - 2 * padding, width - 2 * padding, channels), padding)
    if tuple(shape) not in sizes:
        expected = " or ".join(f"[N, {', '.join(map(str, size))}]" for size in sizes)
        raise ValueError(f"images: expected shape {expected}. Received: [N, {', '.join(map(str, shape))}]")
    return sizes[tuple(shape)]
