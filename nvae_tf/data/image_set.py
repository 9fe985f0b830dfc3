"""The images of a split in the form that batches read: decoded in memory, or in prepared records."""

import collections.abc
import dataclasses

import numpy as np
from absl import logging

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.processes import map_in_processes, num_cores

_MAX_PART_BYTES = 64 * 2**20
_PARTS_PER_PROCESS = 8
# Reading fewer images here is faster than starting other processes.
_MIN_PARALLEL = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSet:
    """Images of one split.

    An image that cannot be read is left out: in evaluation it does not count; in training the next readable image
    takes its place, so that the order of the others does not depend on it.

    Attributes:
        source: description of what the images were read from.
        image_shape: (H, W, C), padding included.
        num_images: number of images, damaged ones included.
        damaged: int64 array of the numbers of damaged images.
        array: uint8 [N, H, W, C], padding included; None for images in prepared records.
        read_png: function of an image's number that returns the bytes of its PNG file, without padding; None for
            images in memory.
        padding: number of zeros to add on every side of the images that `read_png` returns. Default 0.
    """

    source: str
    image_shape: tuple
    num_images: int
    damaged: np.ndarray
    array: np.ndarray | None = None
    read_png: collections.abc.Callable | None = None
    padding: int = 0

    def __len__(self):
        return self.num_images

    @property
    def good(self):
        """int64 array of the numbers of the undamaged images, in order."""
        return np.setdiff1d(np.arange(self.num_images), self.damaged)


def from_array(array):
    """`ImageSet` of a uint8 array [N, H, W, C] with N >= 1; raises ValueError for anything else."""
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 4 or not len(array):
        received = f"{getattr(array, 'dtype', type(array).__name__)} of shape {np.shape(array)}"
        raise ValueError(f"images: expected a uint8 array [N, H, W, C] with N >= 1. Received: {received}")
    return ImageSet("an array", array.shape[1:], len(array), np.zeros(0, np.int64), array)


def image_shape(images, padding):
    """Shape (H, W, C) of `SplitImages`, padding included."""
    return images.fit.height + 2 * padding, images.fit.width + 2 * padding, images.channels


def stand_ins(num_images, damaged):
    """int64 [N]: the number of each image or, if it is damaged, of the next good one, wrapping around at the end."""
    good = np.setdiff1d(np.arange(num_images), damaged)
    return good[np.searchsorted(good, np.arange(num_images)) % len(good)]


def from_records(images, padding=0):
    """`ImageSet` of the `SplitImages` of a prepared set, which stay on disk."""
    records = images.split.open_records()
    damaged = np.flatnonzero(np.isin(images.indices, records.damaged))
    _check_any_good(images, damaged)
    indices = images.indices[stand_ins(len(images), damaged)]
    shape = image_shape(images, padding)

    def read_png(number):
        return records.read(int(indices[number]))

    return ImageSet(images.split.source, shape, len(images), damaged, read_png=read_png, padding=padding)


def in_memory(images, padding=0, max_damaged=0, progress=None):
    """`ImageSet` of `SplitImages` that are read into memory, by several processes if many need decoding.

    `padding` zeros are added on every side. At most `max_damaged` images may be damaged, not counting those that were
    left out when a prepared set was made. `progress` is called with the number of images read so far.

    Raises:
        ValueError: too many images are damaged, or an image has another size.
    """
    shape = image_shape(images, padding)
    array = np.zeros((len(images), *shape), np.uint8)
    known = images.split.open_records().damaged if images.split.open_records else ()
    limit, damaged = max_damaged + int(np.isin(images.indices, known).sum()), []
    for found, done in _read_into(array[:, padding : shape[0] - padding, padding : shape[1] - padding], images):
        for number, message in found:
            damaged.append(number)
            if len(damaged) > limit:
                raise ValueError(
                    f"data.max_damaged: expected at most {limit} damaged images. "
                    f"Received: {len(damaged)}, the last: {message}"
                )
            logging.warning("damaged image, left out (%d, at most %d): %s", len(damaged), limit, message)
        if progress is not None:
            progress(done)
    damaged = np.array(damaged, np.int64)
    _check_any_good(images, damaged)
    array[damaged] = array[stand_ins(len(images), damaged)[damaged]]
    return ImageSet(images.split.source, shape, len(images), damaged, array)


def _check_any_good(images, damaged):
    if len(damaged) == len(images):
        raise ValueError(f"{images.split.source}: expected images. Received: {len(images)} damaged ones")


def _read_into(pixels, images):
    """Fills `pixels`; yields ([(number, message) of damaged images], number of images read so far)."""
    if not images.split.decodes or len(images) < _MIN_PARALLEL:
        yield _read_part(images, (0, len(images)), pixels)[1], len(images)
        return
    processes = num_cores()
    largest = max(_MAX_PART_BYTES // pixels[0].size, 1)
    size = min(-(-len(images) // (_PARTS_PER_PROCESS * processes)), largest)
    parts = [(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    results = map_in_processes(_read_part, images, parts, processes)
    for (start, stop), (part, found) in zip(parts, results, strict=True):
        pixels[start:stop] = part
        yield found, stop


def _read_part(images, part, pixels=None):
    start, stop = part
    pixels = np.zeros((stop - start, *image_shape(images, 0)), np.uint8) if pixels is None else pixels
    damaged = []
    for row, (_, image) in enumerate(images.read(slice(start, stop))):
        if isinstance(image, DamagedImageError):
            damaged.append((start + row, str(image)))
        else:
            pixels[row] = image
    return pixels, damaged
