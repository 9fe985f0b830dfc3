"""CIFAR-10 in the two formats of its authors: binary batches and pickled ("python") batches."""

import math
import pickle

import numpy as np

from nvae_tf.data.sources.finding import find_files

IMAGE_SHAPE = (32, 32, 3)
_NUM_VALUES = math.prod(IMAGE_SHAPE)
_RECORD_BYTES = 1 + _NUM_VALUES
_NUM_LABELS = 10
_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")
_PATTERNS = {"train": ("data_batch_[0-9].bin", "data_batch_[0-9]"), "test": ("test_batch.bin", "test_batch")}


def _to_nhwc(planes):
    # Both formats keep the red plane, then green, then blue.
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def read_binary_batch(path):
    """Reads one binary batch: records of a label byte and 3,072 values.

    Args:
        path: `pathlib.Path`.

    Returns:
        uint8, [N, 32, 32, 3].

    Raises:
        ValueError: the size is no multiple of a record, or a label is none of 0 to 9.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if data.size == 0 or data.size % _RECORD_BYTES:
        raise ValueError(f"{path}: expected a multiple of {_RECORD_BYTES} bytes. Received: {data.size} bytes")
    records = data.reshape(-1, _RECORD_BYTES)
    if records[:, 0].max() >= _NUM_LABELS:
        raise ValueError(f"{path}: expected labels of 0 to {_NUM_LABELS - 1}. Received: {records[:, 0].max()}")
    return _to_nhwc(records[:, 1:])


class _PickledDtype:
    """Stands in for `numpy.dtype` while a batch is read; keeps its name alone."""

    def __init__(self, name, *unused):
        self.name = name

    def __setstate__(self, state):
        pass


class _PickledArray:
    """Stands in for `numpy.ndarray` while a batch is read; NumPy itself never sees the pickle's values."""

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.fortran_order, self.data = state

    def to_array(self):
        if self.dtype.name not in ("u1", b"u1"):
            raise ValueError(f"dtype {self.dtype.name!r} instead of 'u1'")
        order = "F" if self.fortran_order else "C"
        return np.frombuffer(self.data, np.uint8).reshape(self.shape, order=order)


def _reconstruct(*unused):
    return _PickledArray()


def _from_buffer(data, dtype, shape, order):
    array = _PickledArray()
    array.__setstate__((None, shape, dtype, order == "F", data))
    return array


def _encode_latin1(text, encoding):
    # Protocols before 3 write bytes as text; any other codec is refused.
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "dtype"): _PickledDtype,
    ("numpy", "ndarray"): _PickledArray,
    ("_codecs", "encode"): _encode_latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _BatchUnpickler(pickle.Unpickler):
    """Builds dicts, lists, bytes, numbers and stand-ins for arrays; imports and calls nothing else."""

    def find_class(self, module, name):
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images")
        return _STAND_INS[module, name]


def read_python_batch(path):
    """Reads one pickled batch: a dict whose b"data" is a uint8 array of [N, 3072].

    A pickle is a program; this one may only name what an array needs, so that a hostile file executes nothing.

    Args:
        path: `pathlib.Path`.

    Returns:
        uint8, [N, 32, 32, 3].

    Raises:
        ValueError: the file is damaged, cut short, hostile or holds something else.
    """
    try:
        with open(path, "rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        data = batch[b"data"].to_array()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(
            f"{path}: expected a complete pickled dict with a uint8 array b'data' of [N, {_NUM_VALUES}]. "
            f"Received: {path.stat().st_size} bytes ({type(error).__name__}: {error})"
        ) from error
    if data.ndim != 2 or data.shape[0] < 1 or data.shape[1] != _NUM_VALUES:
        raise ValueError(f"{path}: expected b'data' of shape [N, {_NUM_VALUES}]. Received: {list(data.shape)}")
    return _to_nhwc(data)


def read_cifar10(data_dir, split):
    """Reads CIFAR-10's images of a split, from however many of its batches are present.

    Args:
        data_dir: folder of the batches, or its parent; binary batches are preferred to pickled ones.
        split: `"train"` or `"test"`.

    Returns:
        uint8, [N, 32, 32, 3].

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: a file is damaged.
    """
    paths = find_files(data_dir, _FOLDERS, _PATTERNS[split])
    return np.concatenate(
        [read_binary_batch(path) if path.suffix == ".bin" else read_python_batch(path) for path in paths]
    )


def find_cifar(root, info):
    return None
