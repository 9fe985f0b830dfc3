"""LMDB folders: those with numbered images that NVAE is customarily trained from, and LSUN's own."""

import array
import functools
import os
import pathlib
import struct
import threading
import weakref

import numpy as np

from nvae_tf.data.images import DamagedImageError, decode, to_channels

_NUMBERED = {
    "train": ("train.lmdb",),
    "validation": ("validation.lmdb", "valid.lmdb", "val.lmdb"),
    "test": ("test.lmdb",),
}
_LSUN = {"train": "train_lmdb", "validation": "val_lmdb"}
_LSUN_CATEGORIES = {"lsun_bedroom": "bedroom", "lsun_church": "church_outdoor", "lsun_tower": "tower"}
_DATA_FILE = "data.mdb"

# The two meta pages, after a page header: magic, version, address, size of the map, two tables of 48 bytes (the first
# begins with the size of a page), number of the last page, and of the transaction.
_PAGE_HEADER_BYTES = 16
_META = struct.Struct("<IIQQI44x48xQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_SIZES = [1 << bits for bits in range(8, 17)]

_ENCODED_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

# LMDB forbids to open one file twice in a process, so that its stores share what is open; it is closed with the last.
_environments = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _data_file(path):
    return path / _DATA_FILE if path.is_dir() else path


def _exists(path):
    return _data_file(path).is_file()


def _check_file(path):
    """Raises `ValueError` for a file that LMDB must not open: it maps the file and trusts it, and would crash."""
    size = path.stat().st_size
    metas, place = [], 0
    with open(path, "rb") as file:
        for _ in range(2):
            file.seek(place + _PAGE_HEADER_BYTES)
            data = file.read(_META.size)
            if len(data) < _META.size:
                raise ValueError(f"{path}: expected an LMDB file. Received: {size} bytes, cut short")
            magic, version, _, _, page_size, last_page, transaction = _META.unpack(data)
            if (magic, version) != (_MAGIC, _VERSION) or page_size not in _PAGE_SIZES:
                raise ValueError(
                    f"{path}: expected an LMDB file with magic {_MAGIC:#x}, version {_VERSION}. "
                    f"Received: magic {magic:#x}, version {version}, pages of {page_size} bytes"
                )
            metas.append((transaction, (last_page + 1) * page_size))
            place = page_size
    expected = max(metas)[1]
    if size < expected:
        raise ValueError(f"{path}: expected an LMDB file of {expected} bytes or more. Received: {size} bytes")


def _environment(path):
    """The open `lmdb.Environment` of a folder, or of a file alone."""
    import lmdb

    file = _data_file(path)
    status = file.stat()
    # Nothing of LMDB may be used after a fork, hence the process.
    key = (os.getpid(), status.st_dev, status.st_ino)
    with _lock:
        environment = _environments.get(key)
        if environment is None:
            _check_file(file)
            try:
                environment = lmdb.open(
                    str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, max_spare_txns=16
                )
            except lmdb.Error as error:
                raise ValueError(f"{path}: expected an LMDB environment. Received: {error}") from error
            _environments[key] = environment
    return environment


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
        self.source = str(path)
        self._find_keys()

    def _find_keys(self):
        self._count = count = self._environment().stat()["entries"]
        for index in (0, count - 1):
            if self._value(self._key(index)) is None:
                expected = f"entries with the keys 0 to {max(count - 1, 0)}"
                raise ValueError(
                    f"{self.path}: expected {expected}. Received: {count} entries, none with the key {index}"
                )

    def _key(self, index):
        return b"%d" % index

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "_env"}

    def _environment(self):
        pid, environment = self.__dict__.get("_env", (None, None))
        if pid != os.getpid():
            environment = _environment(self.path)
            self._env = os.getpid(), environment
        return environment

    def _value(self, key):
        import lmdb

        try:
            with self._environment().begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
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
        import lmdb

        # One string, not a list: LSUN has three million of them.
        keys, ends = bytearray(), array.array("q", [0])
        try:
            with self._environment().begin() as transaction, transaction.cursor() as cursor:
                for key in cursor.iternext(keys=True, values=False):
                    keys += key
                    ends.append(len(keys))
        except lmdb.Error as error:
            raise ValueError(f"{self.path}: expected an LMDB environment. Received: {error}") from error
        self._keys, self._ends = bytes(keys), ends
        self._count = len(ends) - 1

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
