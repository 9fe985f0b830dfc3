"""The images of a split as batches need them: in memory where they fit, else read when their turn comes."""

import threading

import numpy as np
from absl import logging

from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.parallel import map_in_order, num_cores
from nvae_tf.data.stores import is_encoded, whole_array

_CHUNK = 256
# Below so many images reading them here is faster than starting other processes.
_MIN_PARALLEL = 2000


class TooManyDamagedError(ValueError):
    """More images than allowed cannot be read."""


class Damage:
    """Images that cannot be read: each is named once in the log, and one too many is an error.

    Args:
        limit: how many are left out.
    """

    def __init__(self, limit):
        self.limit = limit
        self.indices = set()
        self._lock = threading.Lock()

    def add(self, index, message):
        """Counts an image; raises `TooManyDamagedError` past the limit."""
        with self._lock:
            if index in self.indices:
                return
            self.indices.add(index)
            count = len(self.indices)
        if count > self.limit:
            raise TooManyDamagedError(
                f"data.max_damaged: expected at most {self.limit} damaged images. "
                f"Received: {count}, the last: {message}"
            )
        logging.warning("damaged image, left out (%d, at most %d): %s", count, self.limit, message)


class ImageSet:
    """Images of one split.

    An image that cannot be read is left out: in training another takes its place, the next one that can be read,
    so that the batches of a step do not depend on where the images are kept; in evaluation it does not count.

    Args:
        store: image store whose images all have one shape.
        padding: zeros to add on every side. Default 0.
        max_damaged: images that may be left out. Default 0.

    Attributes:
        image_shape: (H, W, C), with padding.
        array: uint8 [N, H, W, C] with padding once `load` has been called, else None.
        encoded: whether images are read as PNG, for TensorFlow to decode.
    """

    def __init__(self, store, padding=0, max_damaged=0):
        self.store, self.padding = store, padding
        self.damage = Damage(max_damaged)
        self.array = None
        self.encoded = is_encoded(store)
        height, width, channels = shape = store.image_shape if self.encoded else self._read_first().shape
        self._stored_shape = tuple(shape)
        self.image_shape = (height + 2 * padding, width + 2 * padding, channels)

    def __len__(self):
        return len(self.store)

    @property
    def num_bytes(self):
        """Memory that all images take when they are decoded."""
        return len(self) * int(np.prod(self.image_shape, dtype=np.int64))

    @property
    def num_good(self):
        """Images that are not known to be damaged."""
        return len(self) - len(self.damage.indices)

    def _read_first(self):
        return self._replacement(-1, self.store.read)[1]

    def _replacement(self, index, read):
        """(index, image) of the next image that can be read, from `index` + 1 on, round the end."""
        for step in range(1, len(self) + 1):
            other = (index + step) % len(self)
            try:
                return other, read(other)
            except DamagedImageError as error:
                self.damage.add(other, str(error))
        raise TooManyDamagedError(f"{self.store.source}: expected images. Received: {len(self)} damaged ones")

    def _read_many(self, indices, read, replace):
        images, kept = [], []
        for index in indices.tolist():
            try:
                images.append(read(index))
            except DamagedImageError as error:
                self.damage.add(index, str(error))
                if not replace:
                    continue
                images.append(self._replacement(index, read)[1])
            kept.append(index)
        return images, np.array(kept, np.int64)

    def read_batch(self, indices, replace=True):
        """Reads images.

        Args:
            indices: int array [B].
            replace: put another image in the place of a damaged one; False leaves it out. Default True.

        Returns:
            (images, indices): uint8 [B, H, W, C] without padding, and int64 [B].

        Raises:
            TooManyDamagedError: more damaged images than allowed.
        """
        images, kept = self._read_many(indices, self.store.read, replace)
        return np.stack(images) if images else np.zeros((0, *self._stored_shape), np.uint8), kept

    def read_encoded(self, indices, replace=True):
        """The same as PNG files: (object array [B] of bytes, int64 [B])."""
        data, kept = self._read_many(indices, self.store.read_encoded, replace)
        return np.array(data, object), kept

    def load(self, progress=None):
        """Reads all images into `array`, in several processes where there are many.

        Args:
            progress: called with the number of images read so far, or None. Default None.

        Returns:
            self.

        Raises:
            TooManyDamagedError: more damaged images than allowed.
        """
        array = whole_array(self.store)
        if array is None:
            array = self._read_all(progress)
        sides = (self.padding, self.padding)
        self.array = np.pad(array, ((0, 0), sides, sides, (0, 0))) if self.padding else np.asarray(array)
        return self

    def _read_all(self, progress):
        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        reader = _ChunkReader(self.store, self._stored_shape)
        if len(self) < _MIN_PARALLEL:
            results = map(reader, chunks)
        else:
            results = map_in_order(_read_here, chunks, num_cores(), _take_reader, (reader,))
        array = np.zeros((len(self), *self._stored_shape), np.uint8)
        for chunk, (images, damaged) in zip(chunks, results, strict=True):
            array[chunk.start : chunk.stop] = images
            for index, message in damaged:
                self.damage.add(index, message)
            if progress is not None:
                progress(chunk.stop)
        damaged = self.damage.indices
        if len(damaged) == len(self):
            raise TooManyDamagedError(f"{self.store.source}: expected images. Received: {len(self)} damaged ones")
        for index in damaged:
            following = (other % len(self) for other in range(index + 1, index + len(self)))
            array[index] = array[next(other for other in following if other not in damaged)]
        return array


class _ChunkReader:
    """Function from indices to (uint8 [B, H, W, C], [(index, message)] of the damaged ones, zeros in the former)."""

    def __init__(self, store, shape):
        self.store, self.shape = store, shape

    def __call__(self, indices):
        images, damaged = np.zeros((len(indices), *self.shape), np.uint8), []
        for place, index in enumerate(indices):
            try:
                images[place] = self.store.read(index)
            except DamagedImageError as error:
                damaged.append((index, str(error)))
        return images, damaged


_reader = None  # of a worker process: the store is sent to it once


def _take_reader(reader):
    global _reader
    _reader = reader


def _read_here(indices):
    return _reader(indices)
