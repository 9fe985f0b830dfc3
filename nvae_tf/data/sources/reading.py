"""Reading that the formats share: images from bytes and arrays, and errors that name the damaged file."""

import contextlib
import errno
import functools

import numpy as np

from nvae_tf.data.decode import DamagedImageError, decode, to_channels
from nvae_tf.data.source import SourceSplit


def decode_or_error(data, channels, name):
    """Like `decode`, but returns the `DamagedImageError` of an image that cannot be read."""
    try:
        return decode(data, channels, name)
    except DamagedImageError as error:
        return error


def array_split(source, paths, load, channels, num_images=None):
    """The `SourceSplit` of images in one array.

    `load` is a function of no arguments that returns uint8 [N, H, W] or [N, H, W, C]; it can be pickled. `num_images`
    is N, if it is known without loading.
    """
    num_images = len(load()) if num_images is None else num_images
    read = functools.partial(_read_array, load, source, channels)
    return SourceSplit(source, num_images, read, tuple(paths), decodes=False)


def _read_array(load, source, channels, indices):
    array = load()
    for index in indices:
        name = f"{source}, image {index}"
        yield name, to_channels(array[index], channels, name)


def by_file(paths, counts, indices):
    """Yields (path, indices within it) for the files that hold the wanted images.

    `counts` holds the number of images in each file; `indices`, in increasing order, count over all files.
    """
    indices, end = np.asarray(indices), 0
    for path, count in zip(paths, counts, strict=True):
        start, end = end, end + count
        inside = indices[(indices >= start) & (indices < end)] - start
        if inside.size:
            yield path, inside


@contextlib.contextmanager
def named_damage(name, expected):
    """Context that turns whatever a library raises for a damaged file into a `ValueError` that names the file.

    Errors of the operating system, such as a missing permission, are not changed.
    """
    try:
        yield
    except Exception as error:
        # Decompressors raise OSError without a number; a damaged zip file can point to before its beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{name}: expected {expected}. Received: {type(error).__name__}: {error}") from error
