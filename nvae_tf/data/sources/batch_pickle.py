"""Pickled batches of images, as CIFAR-10 and ImageNet 32 and 64 come in, read without executing anything of them."""

import io
import mmap
import pickle

import numpy as np

# Longer values stay where they are; the shorter ones are copied.
_MIN_VIEW = 1 << 16


class _Reader:
    """What an unpickler reads from; `data` is bytes or an `mmap`."""

    def __init__(self, data):
        self.data, self.position = data, 0

    def read(self, length):
        found = self.data[self.position : self.position + length]
        self.position += len(found)
        return found

    def readline(self):
        end = self.data.find(b"\n", self.position)
        return self.read((len(self.data) if end < 0 else end + 1) - self.position)

    def view(self, length):
        found = memoryview(self.data)[self.position : self.position + length]
        self.position += len(found)
        return found


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


_STAND_INS = {
    ("numpy", "dtype"): _PickledDtype,
    ("numpy", "ndarray"): _PickledArray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}

# A batch needs no sets, no classes of its own, and nothing that is looked up outside of the file.
_REFUSED = (
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID),
    *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


# The unpickler in Python, not that in C: there one opcode can make the table of memorised values as large as it says.
class _BatchUnpickler(pickle._Unpickler):
    """Builds dicts, lists, bytes, numbers and stand-ins for arrays; imports and calls nothing else."""

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if bytes([code]) not in _REFUSED}

    def __init__(self, reader):
        super().__init__(reader, encoding="bytes")
        self._reader = reader
        self._encodable = len(reader.data)

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return self._encode_latin1
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images")
        return _STAND_INS[module, name]

    def _encode_latin1(self, text, encoding):
        # Protocols before 3 write bytes as text; any other codec is refused.
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"codec {encoding!r}")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise pickle.UnpicklingError("more text than the file holds")
        return text.encode("latin1")

    def _append_bytes(self, length):
        in_frame = self._unframer.current_frame is not None
        self.append(self.read(length) if in_frame or length < _MIN_VIEW else self._reader.view(length))

    def _load_bytes(self):
        self._append_bytes(int.from_bytes(self.read(4), "little"))

    def _load_bytes8(self):
        self._append_bytes(int.from_bytes(self.read(8), "little"))

    def _load_build(self):
        if not isinstance(self.stack[-2], (_PickledArray, _PickledDtype)):
            raise pickle.UnpicklingError("a state for what has none")
        super().load_build()

    def _set(self, items):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, bytes)):  # the hash of nested tuples may need more stack than there is
                raise pickle.UnpicklingError(f"a key of type {type(key).__name__}")
            self.stack[-1][key] = value

    def _load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _load_setitems(self):
        self._set(self.pop_mark())

    def _load_dict(self):
        items = self.pop_mark()
        self.append({})
        self._set(items)

    dispatch |= {
        pickle.BINSTRING[0]: _load_bytes,
        pickle.BINBYTES[0]: _load_bytes,
        pickle.BINBYTES8[0]: _load_bytes8,
        pickle.BYTEARRAY8[0]: _load_bytes8,
        pickle.BUILD[0]: _load_build,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.DICT[0]: _load_dict,
    }


def map_file(path):
    """The bytes of a file without reading them: an `mmap`, or b"" for an empty file."""
    with open(path, "rb") as file:
        if not file.seek(0, io.SEEK_END):
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def pickled_rows(data, num_values, name):
    """The images of a pickled dict whose b"data" or "data" is a uint8 array.

    A pickle is a program; this one may only name what an array needs, so that a hostile file executes nothing. What it
    can make of memory grows with its size alone.

    Args:
        data: the pickle, bytes or an `mmap`.
        num_values: D, values of an image.
        name: of the file, for messages.

    Returns:
        uint8, [N, D], read only: a view of `data`, or a copy where the protocol (before 3) wrote bytes as text.

    Raises:
        ValueError: damaged, cut short, hostile, or something else.
    """
    try:
        batch = _BatchUnpickler(_Reader(data)).load()
        rows = batch[b"data" if b"data" in batch else "data"].to_array()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(
            f"{name}: expected a complete pickled dict with a uint8 array b'data' of [N, {num_values}]. "
            f"Received: {len(data)} bytes ({type(error).__name__}: {error})"
        ) from error
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] != num_values:
        raise ValueError(f"{name}: expected b'data' of shape [N, {num_values}]. Received: {list(rows.shape)}")
    return rows
