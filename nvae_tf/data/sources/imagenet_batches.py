"""ImageNet 32x32 and 64x64 of the re-release of 2021 (Chrabaszcz et al., arXiv 1707.08819), in its ten batches.

Pickled batches are read in place, an image at a time, and take no memory. Batches in .npz files are compressed: each
is read whole (0.4 GB at 32, 1.6 GB at 64), and no more than two of them are kept. Images in order, as
`tools/prepare_data.py` reads them, are read well from both. For images in random order from .npz files, prepare the
data set first.
"""

import bisect
import collections
import errno
import functools
import itertools
import re
import threading
import zipfile

import numpy as np

from nvae_tf.data.decode import to_channels
from nvae_tf.data.sources.batch_pickle import map_file, pickled_rows
from nvae_tf.data.sources.names import find_files

# Those of one kind in one place are the split.
_PATTERNS = {
    "train": ("train_data_batch_*.npz", "train_data_batch_*"),
    "validation": ("val_data.npz", "val_data"),
}
# Folders as the site's .zip files make them; 64x64 comes in two parts.
_FOLDER_PATTERNS = {"train": "Imagenet{size}_train*", "validation": "Imagenet{size}_val*"}
_NUMBER = re.compile(r"train_data_batch_(\d+)(\.npz)?")
_MAX_KEPT = 2
_MAX_BATCH = 4 << 30


def _npz_rows(path, num_values):
    """N of a .npz file's uint8 array `data` of [N, D], from its header alone; raises `ValueError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("data.npy")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("another compression than NumPy's")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError(f"version {version}")
                read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, _, dtype = read_header(file)
                header_bytes = file.tell()
    except Exception as error:  # a damaged file can raise nearly anything
        _raise_if_not_damage(error)
        raise _npz_error(path, num_values, f"{type(error).__name__}: {error}") from error
    if dtype != np.uint8 or len(shape) != 2 or shape[0] < 1 or shape[1] != num_values:
        raise _npz_error(path, num_values, f"{dtype} of {list(shape)}")
    size = shape[0] * shape[1]
    if member.file_size != header_bytes + size or size > _MAX_BATCH:
        raise _npz_error(path, num_values, f"{member.file_size} bytes for {shape[0]} images")
    return shape[0]


def _raise_if_not_damage(error):
    # A damaged list of entries leads to places before the file's beginning.
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
        raise error


def _npz_error(path, num_values, reason):
    return ValueError(
        f"{path}: expected a .npz file with a uint8 array 'data' of [N, {num_values}]. Received: {reason}"
    )


def _load_npz(path, num_values):
    _npz_rows(path, num_values)  # the file may be another by now
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["data"]
    except Exception as error:
        _raise_if_not_damage(error)
        raise _npz_error(path, num_values, f"{type(error).__name__}: {error}") from error


class BatchStore:
    """Images in batches of [N, 3 * S * S], the red plane, then green, then blue.

    Args:
        paths: of the batches, in order.
        size: S.
        channels: of the data set.

    Raises:
        ValueError: a damaged batch, or one of another size.
    """

    def __init__(self, paths, size, channels):
        self.paths, self.size, self.channels = paths, size, channels
        self.source = f"{paths[0].parent} ({paths[0].name} to {paths[-1].name})" if paths[1:] else str(paths[0])
        self._num_values = 3 * size * size
        self._open()
        self._ends = list(itertools.accumulate(self._count(path) for path in paths))

    def _open(self):
        self._mapped, self._loaded = {}, collections.OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self):
        closed = ("_mapped", "_loaded", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in closed}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def _count(self, path):
        return _npz_rows(path, self._num_values) if path.suffix == ".npz" else len(self._rows(path))

    def _rows(self, path):
        """uint8 [N, D] of a batch."""
        with self._lock:
            if path in self._mapped:
                return self._mapped[path]
            if path in self._loaded:
                self._loaded.move_to_end(path)
                return self._loaded[path]
            # Before the next is read, so that there are never more than two.
            while len(self._loaded) >= _MAX_KEPT:
                self._loaded.popitem(last=False)
            if path.suffix == ".npz":
                self._loaded[path] = rows = _load_npz(path, self._num_values)
                return rows
            data = map_file(path)
            rows = pickled_rows(data, self._num_values, str(path))
            # Protocols before 3 wrote text, of which the rows are a copy.
            (self._mapped if np.may_share_memory(rows, np.frombuffer(data, np.uint8)) else self._loaded)[path] = rows
            return rows

    def __len__(self):
        return self._ends[-1]

    def _place(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"{self.source}: expected an index below {len(self)}. Received: {index}")
        batch = bisect.bisect_right(self._ends, index)
        return self.paths[batch], index - (self._ends[batch - 1] if batch else 0)

    def name(self, index):
        path, row = self._place(index)
        return f"{path}, image {row}"

    def read(self, index):
        path, row = self._place(index)
        planes = self._rows(path)[row].reshape(3, self.size, self.size)
        return to_channels(np.ascontiguousarray(planes.transpose(1, 2, 0)), self.channels, self.name(index))


def _number(path):
    return int(_NUMBER.fullmatch(path.name)[1])


def _batches(root, split, size):
    """Paths of a split's batches in order."""
    folder = _FOLDER_PATTERNS[split].format(size=size)
    for pattern in _PATTERNS[split] + tuple(f"{folder}/{pattern}" for pattern in _PATTERNS[split]):
        paths = find_files(root, (), (pattern,))
        if split == "train":
            paths = sorted((path for path in paths if _NUMBER.fullmatch(path.name)), key=_number)
        if paths:
            return paths
    return []


def find_pickled_batches(root, info):
    """The batches train_data_batch_1, ..., and val_data, pickled or .npz, in a folder or in those their archives make.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`; its stored size is that of the images.

    Returns:
        {"train" and "validation", those that are there: function of nothing that gives a `BatchStore`}, or None. The
        functions raise `ValueError` for damaged batches and those of another size.
    """
    splits = {split: _batches(root, split, info.stored_size) for split in _PATTERNS}
    return {
        split: functools.partial(BatchStore, paths, info.stored_size, info.channels)
        for split, paths in splits.items()
        if paths
    } or None
