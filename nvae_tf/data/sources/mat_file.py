"""Numbers from MATLAB's version 5 .mat files.

Not by `scipy.io`: files that are damaged in the wrong place crash it, and with it the process.
"""

import math
import struct
import zlib

import numpy as np

_HEADER_BYTES = 128
_ORDERS = {b"IM": "<", b"MI": ">"}
_VERSION = 0x0100
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x800
_MAX_DESCRIPTION = 1024  # what stands before a matrix's values is shorter


class _Elements:
    """Reads one data element after another; `data` is a buffer, `order` "<" or ">"."""

    def __init__(self, data, order, place=0):
        self.data, self.order, self.place = memoryview(data), order, place

    def more(self):
        return self.place < len(self.data)

    def tag(self):
        """(kind, bytes); the place is then that of the values."""
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.place)
        self.place += 8
        if kind >> 16:  # up to four bytes of values are part of the tag
            self.place -= 4
            return kind & 0xFFFF, kind >> 16
        return kind, size

    def values(self, size, padded=True):
        found = self.data[self.place : self.place + size]
        if len(found) < size:
            raise ValueError(f"{len(found)} bytes of an element of {size}")
        self.place += size + (-(self.place + size) % 8 if padded else 0)
        return found

    def element(self, *kinds):
        """(kind, values), of one of these kinds."""
        kind, size = self.tag()
        if kind not in kinds:
            raise ValueError(f"an element of type {kind} instead of {kinds}")
        return kind, self.values(size)


def _description(elements):
    """(flags, dimensions, name): what stands before the values of a matrix."""
    flags = int.from_bytes(elements.element(_UINT32)[1][:4], "little" if elements.order == "<" else "big")
    dimensions = np.frombuffer(elements.element(_INT32)[1], f"{elements.order}i4").tolist()
    return flags, dimensions, bytes(elements.element(_INT8)[1]).decode("ascii")


def _array(elements, max_bytes):
    flags, dimensions, name = _description(elements)
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
        raise ValueError(f"{name!r}, which is no array of real numbers")
    kind, values = elements.element(*_DTYPES)
    dtype = np.dtype(elements.order + _DTYPES[kind])
    if min(dimensions, default=-1) < 0 or len(values) != math.prod(dimensions) * dtype.itemsize:
        raise ValueError(f"{name!r} of {dimensions} with {len(values)} bytes of {dtype}")
    if len(values) > max_bytes:
        raise ValueError(f"{name!r} of {len(values)} bytes, more than {max_bytes}")
    return np.frombuffer(values, dtype).reshape(dimensions, order="F")


def _inflate(data, order, name, max_bytes):
    """The `_Elements` of a compressed matrix from its description on, or None if it has another name."""
    decompressor = zlib.decompressobj()
    start = decompressor.decompress(data, _MAX_DESCRIPTION)
    elements = _Elements(start, order)
    kind, size = elements.tag()
    if kind != _MATRIX or _description(elements)[2] != name:
        return None
    if size > max_bytes + _MAX_DESCRIPTION:
        raise ValueError(f"{name!r} of {size} bytes, more than {max_bytes}")
    # One byte more than claimed would show that the claim is wrong; the end of the stream is its checksum.
    whole = start + decompressor.decompress(decompressor.unconsumed_tail, max(8 + size - len(start), 0) + 1)
    if len(whole) != 8 + size or not decompressor.eof:
        raise ValueError(f"{name!r} of {size} bytes, of which {len(whole) - 8} can be unpacked")
    return _Elements(whole, order, 8)


def mat_array(data, name, max_bytes):
    """One array of a .mat file.

    Args:
        data: the file, bytes or an `mmap`.
        name: of the array.
        max_bytes: of its values; more is refused before memory is taken for it.

    Returns:
        Array of real numbers, of the type it is stored in, a view of `data` where that is not compressed; or None where
        the file has no such array.

    Raises:
        ValueError, struct.error, zlib.error: no version 5, damaged, cut short, too large or no real numbers.
    """
    header = data[:_HEADER_BYTES]
    order = _ORDERS.get(bytes(header[126:]))
    if order is None or struct.unpack_from(f"{order}H", header, 124)[0] != _VERSION:
        raise ValueError("none of version 5")
    elements = _Elements(data, order, _HEADER_BYTES)
    while elements.more():
        kind, size = elements.tag()
        values = elements.values(size, padded=kind != _COMPRESSED)
        if kind == _COMPRESSED:
            inner = _inflate(values, order, name, max_bytes)
            if inner is not None:
                return _array(inner, max_bytes)
        elif kind == _MATRIX and _description(_Elements(values, order))[2] == name:
            return _array(_Elements(values, order), max_bytes)
    return None
