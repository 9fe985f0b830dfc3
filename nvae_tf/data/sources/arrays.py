"""Images as NumPy arrays, in .npy and .npz files."""

import contextlib
import errno
import functools
import io
import math
import os
import zipfile

import numpy as np

from nvae_tf.data.decode import to_channels
from nvae_tf.data.sources.split_names import choose_splits, is_hidden
from nvae_tf.data.stores import ArrayStore

_SUFFIXES = (".npy", ".npz")
_CHANNELS = (1, 3, 4)
_EXPECTED = "uint8 [N, H, W] or [N, H, W, C] with C of 1, 3 or 4 and N of at least 1"
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Headers say a shape and a dtype; NumPy itself reads none longer than this.
_MAX_HEADER_BYTES = 16_384
_KEYS = ("images", "arr_0", "data")
# Deflate makes data at most 1,032 times smaller.
_MAX_RATIO = 1032


class _ArrayError(ValueError):
    """An array that is none of images; the message is complete."""


class _Header:
    """What an array's header says: shape, dtype and the byte at which the data start."""

    def __init__(self, file, name):
        start = io.BytesIO(file.read(_MAX_HEADER_BYTES))
        try:
            version = np.lib.format.read_magic(start)
            self.shape, _, self.dtype = _HEADER_READERS[version](start)
        except Exception as error:  # a damaged header is a damaged Python literal, among other things
            raise _ArrayError(f"{name}: expected the header of a NumPy array. Received: {error}") from error
        self.start = start.tell()
        self.num_bytes = self.start + math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_stack(self):
        """Whether the shape is one of images, whatever the dtype."""
        return len(self.shape) in (3, 4)

    def check(self, name, size):
        """Raises `_ArrayError` if this is no array of images, or one of another size in bytes than `size`."""
        shape, hint = self.shape, ""
        good_shape = self.is_stack and min(shape) >= 1 and (len(shape) == 3 or shape[3] in _CHANNELS)
        if len(shape) == 4 and not good_shape and shape[1] in _CHANNELS:
            hint = "; channels come last, not first"
        elif self.dtype != np.uint8:
            hint = "; values of 0 to 255 as uint8 are what is read"
        if not good_shape or self.dtype != np.uint8:
            raise _ArrayError(f"{name}: expected {_EXPECTED}. Received: {self.dtype} {list(shape)}{hint}")
        if self.num_bytes != size:
            raise _ArrayError(f"{name}: expected {self.num_bytes} bytes for {list(shape)}. Received: {size} bytes")


def _with_channels(array):
    return array[..., np.newaxis] if array.ndim == 3 else array


class MappedArrayStore:
    """Images of an .npy file, which stay there until they are asked for.

    Args:
        path: `pathlib.Path`.
        channels: of the data set.

    Raises:
        ValueError: the file holds something else or is cut short.
    """

    def __init__(self, path, channels):
        with open(path, "rb") as file:
            header = _Header(file, path)
        header.check(path, path.stat().st_size)
        self.path, self.channels, self.source = path, channels, str(path)
        self._num_images, self._mapped = header.shape[0], None

    def __getstate__(self):
        # A mapped array would be pickled with all its values.
        return {**self.__dict__, "_mapped": None}

    def __len__(self):
        return self._num_images

    def name(self, index):
        return f"{self.source}, image {index}"

    def _array(self):
        array = self._mapped
        if array is None:
            array = self._mapped = _with_channels(np.load(self.path, mmap_mode="r", allow_pickle=False))
        return array

    def read(self, index):
        return to_channels(np.array(self._array()[index]), self.channels, self.name(index))

    def as_array(self):
        array = self._array()
        return array if array.shape[3] == self.channels else None


class _Archive:
    """The arrays of an .npz file by key."""

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def _opened(self):
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except _ArrayError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds of errors for damaged files
            # A damaged list of entries leads to places before the file's beginning.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            received = f"{self.path.stat().st_size} bytes, damaged ({error})"
            raise ValueError(f"{self.path}: expected an .npz file. Received: {received}") from error

    def _header(self, archive, name):
        entry, label = archive.getinfo(name), f"{self.path}, {name}"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _ArrayError(f"{label}: expected a stored or deflated entry. Received: method {entry.compress_type}")
        with archive.open(entry) as file:
            return _Header(file, label)

    def headers(self):
        """{key: _Header} of all arrays."""
        with self._opened() as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): self._header(archive, name) for name in names}

    def read(self, key):
        """The array of a key; raises `ValueError` if it is none of images."""
        name = f"{key}.npy"
        with self._opened() as archive:
            entry = archive.getinfo(name)
            self._header(archive, name).check(f"{self.path}, {name}", entry.file_size)
            # NumPy takes memory for all values at once: only for so many as there can be.
            possible = min(entry.compress_size, self.path.stat().st_size) * _MAX_RATIO
            if entry.file_size > possible:
                raise ValueError(f"{name} of {entry.file_size} bytes, of which at most {possible} are there")
            with archive.open(entry) as file:
                return np.lib.format.read_array(file, allow_pickle=False)


def _only_key(headers, path):
    """The key of the array that holds the images; None if no array has the shape of images."""
    keys = [key for key, header in headers.items() if header.is_stack]
    named = [key for key in _KEYS if key in keys]
    bytes_ = [key for key in keys if headers[key].dtype == np.uint8]
    for choice in (keys, named[:1], bytes_):
        if len(choice) == 1:
            return choice[0]
    if keys:
        raise ValueError(f"{path}: expected one array of {_EXPECTED}. Received: {', '.join(keys[:20])}")
    return None


def _open_key(path, key, channels):
    return ArrayStore(_with_channels(_Archive(path).read(key)), channels, f"{path}, {key}")


def _open_file(path, channels):
    if path.suffix.lower() == ".npy":
        return MappedArrayStore(path, channels)
    headers = _Archive(path).headers()
    key = _only_key(headers, path)
    if key is None:
        received = ", ".join(f"{key} {header.dtype} {list(header.shape)}" for key, header in headers.items())
        raise ValueError(f"{path}: expected an array of {_EXPECTED}. Received: {received or 'no array'}")
    return _open_key(path, key, channels)


def _holds_images(path):
    if path.suffix.lower() == ".npz":
        return _only_key(_Archive(path).headers(), path) is not None
    with open(path, "rb") as file:
        return _Header(file, path).is_stack


def find_npz(root, info):
    """NumPy arrays of images in a folder.

    Either one file for each split, named after it (train.npy, val.npz, x_test.npy); or one file: an .npz with a key for
    each split (train, x_train, val_images), or one array, under any key. .npy files are mapped, not read.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`.

    Returns:
        As of any source.

    Raises:
        ValueError: damaged files, several for one split, or arrays among which the images are not clear; and, when a
            split is opened, arrays that are not uint8 [N, H, W] or [N, H, W, C].
    """
    with os.scandir(root) as files:
        names = [file.name for file in files if file.name.lower().endswith(_SUFFIXES) and not is_hidden(file.name)]
    paths = {name: root / name for name in sorted(names) if (root / name).is_file()}
    by_name = choose_splits(paths, info.stored_size, root, word=lambda name: os.path.splitext(name)[0])
    if len(paths) == 1:
        [path] = paths.values()
        by_key = _by_key(path, info) if path.suffix.lower() == ".npz" else {}
        if by_key:
            return {split: functools.partial(_open_key, path, key, info.channels) for split, key in by_key.items()}
    if by_name:
        return {split: functools.partial(_open_file, paths[name], info.channels) for split, name in by_name.items()}
    return _find_whole(paths.values(), root, info)


def _by_key(path, info):
    return choose_splits(_Archive(path).headers(), info.stored_size, path)


def _find_whole(paths, root, info):
    found = [path for path in paths if _holds_images(path)]
    if len(found) > 1:
        received = ", ".join(path.name for path in found[:20])
        raise ValueError(f"{root}: expected one .npy or .npz file, or one for each split. Received: {received}")
    return {"all": functools.partial(_open_file, found[0], info.channels)} if found else None
