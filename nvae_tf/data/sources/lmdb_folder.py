"""LMDB environments: those with numbered images, often used to train NVAE, and those of LSUN."""

import contextlib
import functools

import numpy as np

from nvae_tf.data.decode import DamagedImageError, to_channels
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.sources.reading import decode_or_error

_NUMBERED = {
    "train": ("train.lmdb",),
    "validation": ("validation.lmdb", "valid.lmdb", "val.lmdb"),
    "test": ("test.lmdb",),
}
_LSUN = {"train": "train_lmdb", "validation": "val_lmdb"}
_LSUN_CATEGORIES = {"lsun_bedroom": "bedroom", "lsun_church": "church_outdoor", "lsun_tower": "tower"}
_ENCODED_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def _data_file(path):
    return path / "data.mdb" if path.is_dir() else path


@contextlib.contextmanager
def _transaction(path):
    """A read-only transaction of the environment in a folder or a file."""
    import lmdb

    try:
        with lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False) as environment:
            # LMDB maps the file into memory and would crash if it is truncated.
            expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            received = _data_file(path).stat().st_size
            if received < expected:
                raise ValueError(f"{path}: expected at least {expected} bytes. Received: {received} bytes")
            with environment.begin() as transaction:
                yield transaction
    except lmdb.Error as error:
        raise ValueError(f"{path}: expected an LMDB environment. Received: {error}") from error


def _open(path, read, *arguments):
    with _transaction(path) as transaction:
        count = transaction.stat()["entries"]
    return SourceSplit(str(path), count, functools.partial(read, path, *arguments), (_data_file(path),))


def _read_numbered(path, raw_size, channels, indices):
    with _transaction(path) as transaction:
        for index in indices:
            name = f"{path}, key {index}"
            value = transaction.get(b"%d" % index)
            if value is None:
                yield name, DamagedImageError(f"{name}: expected a value with this key. Received: none")
            else:
                yield name, _image(value, raw_size, channels, name)


def _image(value, raw_size, channels, name):
    """The image in a value: an image file, or exactly the bytes of raw pixels [raw_size, raw_size, channels]."""
    shape = (raw_size, raw_size, channels)
    is_raw = len(value) == np.prod(shape)
    if not is_raw or value.startswith(_ENCODED_STARTS):
        image = decode_or_error(value, channels, name)
        # An image file may happen to be as long as raw pixels, and raw pixels may happen to begin like an image file.
        if not is_raw or not isinstance(image, DamagedImageError):
            return image
    return to_channels(np.frombuffer(value, np.uint8).reshape(shape), channels, name)


def find_lmdb(root, info):
    """Finds train.lmdb and validation.lmdb or test.lmdb, folders or files, with the keys "0", "1", ...

    A value with as many bytes as an image of the data set holds raw pixels [H, W, C]; any other is an image file.
    """
    found = {}
    for split, names in _NUMBERED.items():
        for path in (root / name for name in names):
            if _data_file(path).is_file():
                found.setdefault(split, functools.partial(_open, path, _read_numbered, info.stored_size, info.channels))
    return found or None


def _read_keyed(path, channels, indices):
    with _transaction(path) as transaction:
        cursor, position = transaction.cursor(), -1
        for index in indices:
            for _ in range(index - position):
                cursor.next()
            position = index
            name = f"{path}, key {cursor.key().decode('ascii', 'backslashreplace')}"
            yield name, decode_or_error(cursor.value(), channels, name)


def _lsun_prefixes(root, info):
    """What may precede `train_lmdb` in the names of the category's folders."""
    category = _LSUN_CATEGORIES.get(info.name.rstrip("0123456789"))
    if category is not None:
        return {f"{category}_"}
    names = [path.name for path in root.glob("*_lmdb") if _data_file(path).is_file()]
    return {name.removesuffix(end) for name in names for end in _LSUN.values() if name.endswith(f"_{end}")}


def find_lsun_lmdb(root, info):
    """Finds LSUN's environments CATEGORY_train_lmdb and CATEGORY_val_lmdb, in a folder or in `lsun` below it.

    The name of the data set gives the category. For any other data set it is the only category found, or the folder
    itself is an environment without splits. The images are in the order of LMDB.

    Raises:
        ValueError: there are several categories, and the data set does not say which.
    """
    for folder in (root, root / "lsun"):
        prefixes = _lsun_prefixes(folder, info)
        if len(prefixes) > 1:
            raise ValueError(f"{folder}: expected one category of LSUN. Received: {sorted(p[:-1] for p in prefixes)}")
        for prefix in prefixes:
            paths = {split: folder / f"{prefix}{end}" for split, end in _LSUN.items()}
            found = {
                split: functools.partial(_open, path, _read_keyed, info.channels)
                for split, path in paths.items()
                if _data_file(path).is_file()
            }
            if found:
                return found
    if (root / "data.mdb").is_file() and info.name.rstrip("0123456789") not in _LSUN_CATEGORIES:
        return {"all": functools.partial(_open, root, _read_keyed, info.channels)}
    return None
