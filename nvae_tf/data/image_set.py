"""The images of a split in the form that batches read: decoded in memory, or in prepared records."""

import collections.abc
import dataclasses
import functools
import threading

import numpy as np
from absl import logging

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.fingerprint import pixel_hash
from nvae_tf.data.processes import map_in_processes, num_cores

_MAX_PART_BYTES = 64 * 2**20
_PARTS_PER_PROCESS = 8
# Reading fewer images here is faster than starting other processes.
_MIN_PARALLEL = 2000
_RECORDS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, slots=True)
class ImageSet:
    """Images of one split.

    An image that cannot be read is left out: in evaluation it does not count; in training the next readable image
    takes its place, so that the order of the others does not depend on it.

    Attributes:
        source: description of what the images were read from.
        image_shape: (H, W, C), padding included.
        num_images: number of images, damaged ones included.
        damaged: int64 array of the numbers of the images known to be damaged when the set was opened.
        array: uint8 [N, H, W, C], padding included; None for images in prepared records.
        read_pngs: function of the numbers of images, int64 [B], that returns the bytes of their PNG files, without
            padding; None for images in memory.
        padding: number of zeros to add on every side of the images that `read_pngs` returns. Default 0.
        find_damaged: function of no arguments that reads all records, the first time, and returns `damaged` with those
            that were damaged since; None for images in memory.
        fingerprint: sum of the `pixel_hash` of undamaged images, if they were read to make the set; else None.
        of_run: whether they are those that a run was trained on; None if that is not known. Default None.
    """

    source: str
    image_shape: tuple
    num_images: int
    damaged: np.ndarray
    array: np.ndarray | None = None
    read_pngs: collections.abc.Callable | None = None
    padding: int = 0
    find_damaged: collections.abc.Callable | None = None
    fingerprint: int | None = None
    of_run: bool | None = None

    def __len__(self):
        return self.num_images

    @property
    def good(self):
        """int64 array of the numbers of the undamaged images, in order. Prepared records are read to find them."""
        damaged = self.find_damaged() if self.find_damaged else self.damaged
        return np.setdiff1d(np.arange(self.num_images), damaged)


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


class _Damage:
    """Numbers of damaged images. Each is logged once; more than `limit` are an error. For use by any thread."""

    def __init__(self, limit, known=()):
        self.numbers, self._limit, self._lock = set(known), limit, threading.Lock()

    def add(self, number, message):
        with self._lock:
            if number in self.numbers:
                return
            self.numbers.add(number)
            count = len(self.numbers)
        if count > self._limit:
            raise ValueError(
                f"data.max_damaged: expected at most {self._limit} damaged images. "
                f"Received: {count}, the last: {message}"
            )
        logging.warning("damaged image, left out (%d, at most %d): %s", count, self._limit, message)

    def array(self):
        return np.array(sorted(self.numbers), np.int64)


def from_records(images, padding=0, max_damaged=0):
    """`ImageSet` of the `SplitImages` of a prepared set, which stay on disk.

    At most `max_damaged` records may be damaged, or else `read_pngs` and `good` raise ValueError.
    """
    records = images.split.open_records()
    known = np.flatnonzero(np.isin(images.indices, records.damaged))
    _check_any_good(images, known)
    damage = _Damage(max_damaged + len(known), known.tolist())

    readable = stand_ins(len(images), known)

    def read_pngs(numbers):
        nonlocal readable
        while True:
            wanted = readable[numbers]  # another thread may replace `readable` meanwhile
            files = records.read(images.indices[wanted])
            found = [place for place, file in enumerate(files) if isinstance(file, DamagedImageError)]
            if not found:
                return files
            for place in found:
                damage.add(int(wanted[place]), str(files[place]))
            _check_any_good(images, damage.numbers)
            readable = stand_ins(len(images), damage.array())

    @functools.cache
    def find_damaged():
        for start in range(0, len(images), _RECORDS_AT_ONCE):
            read_pngs(np.arange(start, min(start + _RECORDS_AT_ONCE, len(images))))
        return damage.array()

    shape = image_shape(images, padding)
    return ImageSet(images.split.source, shape, len(images), known, None, read_pngs, padding, find_damaged)


def in_memory(images, padding=0, max_damaged=0, progress=lambda done: None):
    """`ImageSet` of `SplitImages` that are read into memory, by several processes if many need decoding.

    `padding` zeros are added on every side. At most `max_damaged` images may be damaged, not counting those that were
    left out when a prepared set was made. `progress` is called with the number of images read so far.

    Raises:
        ValueError: too many images are damaged, or an image has another size.
    """
    shape = image_shape(images, padding)
    array = np.zeros((len(images), *shape), np.uint8)
    known = images.split.open_records().damaged if images.split.open_records else ()
    damage = _Damage(max_damaged + int(np.isin(images.indices, known).sum()))
    pixels, fingerprint = array[:, padding : shape[0] - padding, padding : shape[1] - padding], 0
    in_place = functools.partial(_read_part, pixels=pixels)
    for (start, stop), (part, found, part_sum) in _in_parts(_read_part, images, in_place):
        pixels[start:stop] = part
        for number, message in found:
            damage.add(number, message)
        fingerprint += part_sum
        progress(stop)
    damaged = damage.array()
    _check_any_good(images, damaged)
    array[damaged] = array[stand_ins(len(images), damaged)[damaged]]
    return ImageSet(images.split.source, shape, len(images), damaged, array, fingerprint=fingerprint)


def _check_any_good(images, damaged):
    if len(damaged) == len(images):
        raise ValueError(f"{images.split.source}: expected images. Received: {len(images)} damaged ones")


def read_fingerprint(images, progress=lambda done: None):
    """Sum of the `pixel_hash` of undamaged `SplitImages`, which are read unless it follows from a prepared set's.

    `progress` is called with the number of images read so far.
    """
    whole, others = images.split.fingerprint, np.setdiff1d(np.arange(images.split.num_images), images.indices)
    if whole is not None and len(others) < len(images):
        return whole - read_fingerprint(dataclasses.replace(images, indices=others)) if len(others) else whole
    fingerprint = 0
    for (_, stop), part_sum in _in_parts(_sum_part, images):
        fingerprint += part_sum
        progress(stop)
    return fingerprint


def _in_parts(function, images, here=None):
    """Yields ((start, stop), function(images, (start, stop))) for parts of the images, from several processes.

    Images that are few, or quick to read, are one part, for which this process calls `here` if it is given.
    """
    if not images.split.decodes or len(images) < _MIN_PARALLEL:
        yield (0, len(images)), (here or function)(images, (0, len(images)))
        return
    processes = num_cores()
    largest = max(_MAX_PART_BYTES // np.prod(image_shape(images, 0)), 1)
    size = min(-(-len(images) // (_PARTS_PER_PROCESS * processes)), largest)
    parts = [(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    yield from zip(parts, map_in_processes(function, images, parts, processes), strict=True)


def _sum_part(images, part):
    found = (image for _, image in images.read(slice(*part)))
    return sum(pixel_hash(image) for image in found if not isinstance(image, DamagedImageError))


def _read_part(images, part, pixels=None):
    """(uint8 [stop - start, H, W, C], [(number, message) of damaged images], sum of the others' `pixel_hash`)."""
    start, stop = part
    pixels = np.zeros((stop - start, *image_shape(images, 0)), np.uint8) if pixels is None else pixels
    damaged, fingerprint = [], 0
    for row, (_, image) in enumerate(images.read(slice(start, stop))):
        if isinstance(image, DamagedImageError):
            damaged.append((start + row, str(image)))
        else:
            pixels[row] = image
            fingerprint += pixel_hash(image)
    return pixels, damaged, fingerprint
