"""Values of an LMDB file by their keys.

Not by LMDB: it maps a file and trusts it, and a damaged one would end the process.
"""

import bisect
import struct

from nvae_tf.data.sources.batch_pickle import map_file

# The two meta pages, after a page header: magic, version, address, size of the map; of the table of free pages the size
# of a page; of the other one the flags, entries and first page; number of the last page, and of the transaction.
_PAGE_HEADER_BYTES = 16
_META = struct.Struct("<IIQQI44x4xH26xQQQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_SIZES = [1 << bits for bits in range(8, 17)]
_NO_PAGE = 2**64 - 1

# A page: its number, kind, and the end of the table of its nodes. A node: size of its value, or number of its page,
# whose highest bits are where a leaf has flags; flags; size of its key.
_PAGE = struct.Struct("<Q2xHH2x")
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_KINDS = 0x2F
_PLACE = struct.Struct("<H")
_NODE = struct.Struct("<IHH")
_LONG = 1  # the value has pages of its own
_NUMBER = struct.Struct("<Q")
_MAX_DEPTH = 32


def _read_meta(data, path):
    """(flags, entries, first page, last page, size of a page) as of the last transaction."""
    metas, place = [], 0
    for _ in range(2):
        if len(data) < place + _PAGE_HEADER_BYTES + _META.size:
            raise ValueError(f"{path}: expected an LMDB file. Received: {len(data)} bytes, cut short")
        fields = _META.unpack_from(data, place + _PAGE_HEADER_BYTES)
        magic, version, _, _, page_size, flags, entries, root, last_page, transaction = fields
        if (magic, version) != (_MAGIC, _VERSION) or page_size not in _PAGE_SIZES:
            raise ValueError(
                f"{path}: expected an LMDB file with magic {_MAGIC:#x}, version {_VERSION}. "
                f"Received: magic {magic:#x}, version {version}, pages of {page_size} bytes"
            )
        metas.append((transaction, (flags, entries, root, last_page, page_size)))
        place = page_size
    return metas[metas[0][0] < metas[1][0]][1]


class LmdbFile:
    """An LMDB file as of its last transaction, mapped. May be read from several threads.

    Args:
        path: `pathlib.Path` of data.mdb, or of the file alone.

    Attributes:
        num_entries: as the file claims.

    Raises:
        ValueError: no LMDB file, cut short, or one with several values for a key or with an order of its own.
    """

    def __init__(self, path):
        self._data = map_file(path)
        flags, self.num_entries, self._root, last_page, self._page_size = _read_meta(self._data, path)
        self._end = (last_page + 1) * self._page_size
        if len(self._data) < self._end:
            raise ValueError(
                f"{path}: expected an LMDB file of {self._end} bytes or more. Received: {len(self._data)} bytes"
            )
        if flags:
            raise ValueError(f"{path}: expected one value for each key, in order. Received: flags {flags:#x}")

    def _page(self, number, *kinds):
        """(place, kind, number of nodes); raises `ValueError` if it is none of these kinds."""
        start = number * self._page_size
        if start >= self._end:
            raise ValueError(f"page {number} of {self._end // self._page_size}")
        found, kind, end_of_table = _PAGE.unpack_from(self._data, start)
        kind &= _KINDS
        if found != number or kind not in kinds:
            raise ValueError(f"page {number} with the number {found} and of kind {kind}")
        if kind != _OVERFLOW and not _PAGE_HEADER_BYTES <= end_of_table <= self._page_size:
            raise ValueError(f"page {number} with a table of {end_of_table} bytes")
        return start, kind, (end_of_table - _PAGE_HEADER_BYTES) // _PLACE.size

    def _node(self, start, index):
        """(size or low bits of the page, flags or its high bits, key, place of the value) of a node."""
        [place] = _PLACE.unpack_from(self._data, start + _PAGE_HEADER_BYTES + _PLACE.size * index)
        if place + _NODE.size > self._page_size:
            raise ValueError(f"a node at byte {place} of a page")
        size, flags, key_size = _NODE.unpack_from(self._data, start + place)
        place += _NODE.size
        if place + key_size > self._page_size:
            raise ValueError(f"a key of {key_size} bytes at byte {place} of a page")
        return size, flags, self._data[start + place : start + place + key_size], start + place + key_size

    def _child(self, start, index):
        low, high, _, _ = self._node(start, index)
        return low | high << 32

    def _value(self, start, index):
        size, flags, _, place = self._node(start, index)
        end = start + self._page_size
        if flags == _LONG and place + _NUMBER.size <= end:
            place, end = self._page(*_NUMBER.unpack_from(self._data, place), _OVERFLOW)[0], self._end
            place += _PAGE_HEADER_BYTES
        elif flags:
            raise ValueError(f"a value with flags {flags:#x}")
        if place + size > end:
            raise ValueError(f"a value of {size} bytes, of which {end - place} are there")
        return self._data[place : place + size]

    def get(self, key):
        """The value of a key, bytes, or None; raises `ValueError` for damaged pages."""
        number = self._root
        if number == _NO_PAGE:
            return None
        for _ in range(_MAX_DEPTH):
            start, kind, count = self._page(number, _BRANCH, _LEAF)
            # The first key of a branch stands for whatever is less than the second.
            first = kind == _BRANCH
            if count < first:
                raise ValueError(f"page {number} without nodes")
            index = bisect.bisect_right(range(count), key, lo=first, key=lambda i, start=start: self._node(start, i)[2])
            if kind == _LEAF:
                found = index > 0 and self._node(start, index - 1)[2] == key
                return self._value(start, index - 1) if found else None
            number = self._child(start, index - 1)
        raise ValueError(f"more than {_MAX_DEPTH} pages one below the other")

    def keys(self):
        """Yields all keys in order; raises `ValueError` for damaged pages."""
        waiting = [] if self._root == _NO_PAGE else [self._root]
        seen = set(waiting)
        while waiting:
            number = waiting.pop()
            start, kind, count = self._page(number, _BRANCH, _LEAF)
            if kind == _BRANCH:
                children = [self._child(start, index) for index in reversed(range(count))]
                # Pages that lead back to others would never end.
                if len(set(children)) < count or not seen.isdisjoint(children):
                    raise ValueError(f"page {number} that leads to other pages than its own")
                seen.update(children)
                waiting += children
                continue
            keys = [self._node(start, index)[2] for index in range(count)]
            # Nodes that lie in one another would make more of a file than it holds.
            if sum(map(len, keys)) > self._page_size:
                raise ValueError(f"page {number} with more keys than it has room for")
            yield from keys
