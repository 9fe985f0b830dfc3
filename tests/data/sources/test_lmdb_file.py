"""LMDB files, read as LMDB itself reads them; damaged ones, which it would crash from."""

import random
import struct

import lmdb
import pytest

from nvae_tf.data.sources.lmdb_file import LmdbFile

PAGE = 4096


def write(folder, values=()):
    with lmdb.open(str(folder), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in dict(values).items():
            transaction.put(key, value) if value is not None else transaction.delete(key)
    return folder / "data.mdb"


def as_lmdb_reads(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return list(transaction.cursor().iternext())


def check(folder, others=()):
    file, expected = LmdbFile(folder / "data.mdb"), as_lmdb_reads(folder)
    assert list(file.keys()) == [key for key, _ in expected] and file.num_entries == len(expected)
    assert [file.get(key) for key, _ in expected] == [value for _, value in expected]
    assert all(file.get(key) is None for key in others)


def test_empty(tmp_path):
    write(tmp_path)
    check(tmp_path, [b"0"])


@pytest.mark.parametrize("count", [1, 2, 50, 20_000])
def test_values_in_and_outside_of_the_pages(tmp_path, count):
    draw = random.Random(count)
    sizes = (0, 1, 30, 2000, 2100, 5000) if count < 100 else (0, 1, 30)
    values = {draw.randbytes(draw.randint(1, 40)): draw.randbytes(draw.choice(sizes)) for _ in range(count)}
    write(tmp_path, values)
    check(tmp_path, {b"", b"\0" * 41, b"\xff" * 41, *(key + b"\0" for key in values)} - set(values))


def test_keys_as_long_as_they_may_be(tmp_path):
    write(tmp_path, {b"%0511d" % index: b"%d" % index for index in range(500)})
    check(tmp_path)


def test_the_last_transaction_counts(tmp_path):
    values = {b"%d" % index: b"x" * (index % 3000) for index in range(1000)}
    for changes in (values, dict.fromkeys(list(values)[::2]), {b"1": b"another"}):
        write(tmp_path, changes)
        check(tmp_path, [b"1000"])
    assert as_lmdb_reads(tmp_path)[0] == (b"1", b"another")


def test_several_values_for_a_key_are_refused(tmp_path):
    path = write(tmp_path, {b"0": b"1"})
    data = bytearray(path.read_bytes())
    for page in range(2):
        data[page * PAGE + 16 + 24 + 48 + 4] = 4  # in the second table of each meta page
    path.write_bytes(data)
    with pytest.raises(ValueError, match="data.mdb: expected one value for each key, in order. Received: flags 0x4"):
        LmdbFile(path)


def test_named_databases_are_no_values(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=1) as environment:
        environment.open_db(b"named")
    with pytest.raises(ValueError, match="a value with flags 0x2"):
        LmdbFile(tmp_path / "data.mdb").get(b"named")


def pages(data, kind):
    """Places of the pages of one kind."""
    starts = range(2 * PAGE, len(data), PAGE)
    return [start for start in starts if struct.unpack_from("<Q2xH", data, start) == (start // PAGE, kind)]


BRANCH, LEAF = 1, 2


@pytest.mark.parametrize(
    ("kind", "offset", "form", "value", "message"),
    [
        (BRANCH, 0, "<Q", 2**50, r"page \d+ with the number \d+ and of kind"),
        (BRANCH, 10, "<H", 4, "of kind 4"),
        (BRANCH, 12, "<H", 16, r"page \d+ without nodes"),
        (BRANCH, 12, "<H", 65535, "with a table of 65535 bytes"),
        (BRANCH, 16, "<H", 4090, "a node at byte 4090 of a page"),
        (LEAF, 12, "<H", 3, "with a table of 3 bytes"),
        (LEAF, 16, "<H", 65535, "a node at byte 65535 of a page"),
    ],
)
def test_damaged_page(tmp_path, kind, offset, form, value, message):
    path = write(tmp_path, {b"%04d" % index: b"x" * 100 for index in range(300)})
    data = bytearray(path.read_bytes())
    for start in pages(data, kind):
        struct.pack_into(form, data, start + offset, value)
    path.write_bytes(data)
    file = LmdbFile(path)
    with pytest.raises(ValueError, match=message):
        file.get(b"0000")
    if "without nodes" in message:
        assert list(file.keys()) == [] and file.num_entries == 300
        return
    with pytest.raises(ValueError, match=message):
        list(file.keys())


def damaged_node(tmp_path, kind, field, form, value):
    """A file of which every first node of pages of a kind has a field changed."""
    path = write(tmp_path, {b"%04d" % index: b"x" * 100 for index in range(300)} | {b"long": bytes(9000)})
    data = bytearray(path.read_bytes())
    for start in pages(data, kind):
        [place] = struct.unpack_from("<H", data, start + 16)
        struct.pack_into(form, data, start + place + field, value)
    path.write_bytes(data)
    return LmdbFile(path)


def test_damaged_size_of_a_value(tmp_path):
    file = damaged_node(tmp_path, LEAF, 0, "<I", 2**32 - 1)
    with pytest.raises(ValueError, match=r"a value of 4294967295 bytes, of which \d+ are there"):
        file.get(b"0000")
    assert file.get(b"0001") == b"x" * 100 and file.get(b"long") == bytes(9000)


def test_damaged_size_of_a_key(tmp_path):
    file = damaged_node(tmp_path, LEAF, 6, "<H", 65535)
    with pytest.raises(ValueError, match="a key of 65535 bytes"):
        list(file.keys())


def test_damaged_child(tmp_path):
    file = damaged_node(tmp_path, BRANCH, 4, "<H", 9)
    with pytest.raises(ValueError, match=r"page 3865\d+ of \d+"):
        file.get(b"0000")


def test_a_page_below_itself(tmp_path):
    path = write(tmp_path, {b"%04d" % index: b"x" * 100 for index in range(300)})
    data = bytearray(path.read_bytes())
    [start] = pages(data, BRANCH)
    [place] = struct.unpack_from("<H", data, start + 16)
    struct.pack_into("<I", data, start + place, start // PAGE)
    path.write_bytes(data)
    file = LmdbFile(path)
    with pytest.raises(ValueError, match="more than 32 pages one below the other"):
        file.get(b"0000")
    with pytest.raises(ValueError, match="leads to other pages than its own"):
        list(file.keys())


def test_nodes_that_lie_in_one_another(tmp_path):
    path = write(tmp_path, {b"%0500d" % index: b"" for index in range(3)})
    data = bytearray(path.read_bytes())
    start = pages(data, LEAF)[-1]
    [place] = struct.unpack_from("<H", data, start + 16)
    struct.pack_into("<H1000H", data, start + 12, 16 + 2000, *[0, place] + [place] * 998)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="more keys than it has room for"):
        list(LmdbFile(path).keys())
