"""LMDB folders: those with numbered images that NVAE is customarily trained from, and LSUN's own."""

import array
import functools
import pathlib

import numpy as np

from nvae_tf.data.decode import DamagedImageError, decode, to_channels
from nvae_tf.data.sources.lmdb_file import LmdbFile

_NUMBERED = {
    "train": ("train.lmdb",),
    "validation": ("validation.lmdb", "valid.lmdb", "val.lmdb"),
    "test": ("test.lmdb",),
}
_LSUN = {"train": "train_lmdb", "validation": "val_lmdb"}
_LSUN_CATEGORIES = {"lsun_bedroom": "bedroom", "lsun_church": "church_outdoor", "lsun_tower": "tower"}
_DATA_FILE = "data.mdb"

_ENCODED_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def _data_file(path):
    return path / _DATA_FILE if path.is_dir() else path


def _exists(path):
    return _data_file(path).is_file()


class LmdbStore:
    """Images that are values of an LMDB environment.

    A value is an image file or, where it is as long as `raw_size`² pixels of the data set, these pixels, [H, W, C].

    Args:
        path: `pathlib.Path` of the environment's folder, or of its file.
        channels: of the data set.
        raw_size: height and width of raw images, or None: every value is an image file.

    Raises:
        ValueError: a damaged environment, or other keys than are expected.
    """

    def __init__(self, path, channels, raw_size=None):
        self.path, self.channels, self.raw_size = path, channels, raw_size
        self.source, self._opened = str(path), None
        self._find_keys()

    def _find_keys(self):
        self._count = count = self._file().num_entries
        for index in (0, count - 1):
            if self._value(self._key(index)) is None:
                expected = f"entries with the keys 0 to {max(count - 1, 0)}"
                raise ValueError(
                    f"{self.path}: expected {expected}. Received: {count} entries, none with the key {index}"
                )

    def _key(self, index):
        return b"%d" % index

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def _file(self):
        # Two threads may both map the file; one of the maps is dropped when it is done with.
        file = self._opened
        if file is None:
            file = self._opened = LmdbFile(_data_file(self.path))
        return file

    def _value(self, key):
        try:
            return self._file().get(key)
        except ValueError as error:
            raise DamagedImageError(f"{self.path}, key {key!r}: expected a value. Received: {error}") from error

    def __len__(self):
        return self._count

    def name(self, index):
        return f"{self.source}, key {self._key(index).decode('ascii', 'backslashreplace')}"

    def read(self, index):
        value, name = self._value(self._key(index)), self.name(index)
        if value is None:
            raise DamagedImageError(f"{name}: expected a value. Received: none")
        shape = (self.raw_size, self.raw_size, self.channels)
        if self.raw_size is None or len(value) != np.prod(shape):
            return decode(value, self.channels, name)
        if value.startswith(_ENCODED_STARTS):  # an image file may happen to be just as long
            try:
                return decode(value, self.channels, name)
            except DamagedImageError:
                pass
        return to_channels(np.frombuffer(value, np.uint8).reshape(shape), self.channels, name)


class KeyedLmdbStore(LmdbStore):
    """The same for keys of any kind; they are listed once, in the order of LMDB, and travel with the store."""

    def _find_keys(self):
        # One string, not a list: LSUN has three million of them.
        keys, ends = bytearray(), array.array("q", [0])
        file = self._file()
        try:
            for key in file.keys():
                keys += key
                ends.append(len(keys))
        except ValueError as error:
            raise ValueError(f"{self.path}: expected the pages of an LMDB file. Received: {error}") from error
        self._keys, self._ends = bytes(keys), ends
        self._count = len(ends) - 1
        if self._count != file.num_entries:
            raise ValueError(f"{self.path}: expected {file.num_entries} entries. Received: {self._count}")

    def _key(self, index):
        return self._keys[self._ends[index] : self._ends[index + 1]]


def find_lmdb(root, info):
    """The environments train.lmdb and validation.lmdb or test.lmdb, folders or files, with the keys "0", "1", ...

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`; a value of as many bytes as its stored images have is raw, [H, W, C]; any other is an image
            file.

    Returns:
        {"train", "validation" and "test", those that are there: function of nothing that gives an `LmdbStore`}, or
        None. The functions raise `ValueError` for damaged environments.
    """
    found = {}
    for split, names in _NUMBERED.items():
        paths = [root / name for name in names if _exists(root / name)]
        if paths:
            found[split] = functools.partial(LmdbStore, paths[0], info.channels, info.stored_size)
    return found or None


def _lsun_prefixes(root, info):
    """Names of the category's folders before `train_lmdb`."""
    category = _LSUN_CATEGORIES.get(info.name.rstrip("0123456789"))
    if category is not None:
        return {f"{category}_"}
    paths = [path for path in root.glob("*_lmdb") if _exists(path)]
    return {path.name.removesuffix(end) for path in paths for end in _LSUN.values() if path.name.endswith(f"_{end}")}


def find_lsun_lmdb(root, info):
    """LSUN's environments CATEGORY_train_lmdb and CATEGORY_val_lmdb, in a folder or in `lsun` below it.

    Args:
        root: `pathlib.Path`.
        info: `DatasetInfo`; its name tells the category. For any other data set it is the only one that is there, or
            `root` is itself an environment, without splits.

    Returns:
        {"train" and "validation", those that are there, or "all": function of nothing that gives a `KeyedLmdbStore`},
        or None. The functions raise `ValueError` for damaged environments.

    Raises:
        ValueError: several categories where any would do.
    """
    make = functools.partial(KeyedLmdbStore, channels=info.channels)
    for folder in (root, root / "lsun"):
        prefixes = _lsun_prefixes(folder, info)
        if len(prefixes) > 1:
            raise ValueError(f"{folder}: expected one category of LSUN. Received: {sorted(p[:-1] for p in prefixes)}")
        for prefix in prefixes:
            paths = {split: folder / f"{prefix}{end}" for split, end in _LSUN.items()}
            found = {split: functools.partial(make, path) for split, path in paths.items() if _exists(path)}
            if found:
                return found
    if (root / _DATA_FILE).is_file() and info.name.rstrip("0123456789") not in _LSUN_CATEGORIES:
        return {"all": functools.partial(make, pathlib.Path(root))}
    return None
