"""Damage to files, drawn from a seeded generator: to their bytes, or below the checksums and the compression."""

import gzip
import io
import re
import struct
import zipfile
import zlib

import google_crc32c

_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40)
_INTERESTING += (1000, 9999, 16383, 1 << 20, 1 << 24, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_NUMBERS = (
    "0",
    "-1",
    "1",
    "3",
    "255",
    "256",
    "65536",
    "2147483648",
    "99999999999999999999",
    "1e9",
    "1.5",
    "null",
    "NaN",
)
_PAGE = 4096


def _place(data, random):
    """An offset: anywhere, or where headers and tables are."""
    size = len(data)
    places = [lambda: random.randrange(size), lambda: random.randrange(min(size, 64))]
    places.append(lambda: size - 1 - random.randrange(min(size, 400)))
    places.append(lambda: random.randrange(-(-size // _PAGE)) * _PAGE + random.randrange(64))
    return min(random.choice(places)(), size - 1)


def _flip(data, random):
    for _ in range(random.randint(1, 8)):
        data[_place(data, random)] ^= 1 << random.randrange(8)


def _overwrite(data, random):
    width = random.choice((1, 2, 4, 8))
    value = random.choice((*_INTERESTING, random.getrandbits(64), len(data) + random.randint(-9, 9)))
    place = _place(data, random)
    place -= place % random.choice((1, width))
    data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, random.choice(("little", "big")))


def _truncate(data, random):
    del data[random.randrange(len(data)) :]


def _span(data, random):
    start = _place(data, random)
    return slice(start, start + random.choice((1, 4, 16, random.randint(1, 1000))))


def _delete(data, random):
    del data[_span(data, random)]


def _duplicate(data, random):
    span = _span(data, random)
    data[span.start : span.start] = data[span] * random.choice((1, 2, 40))


def _move(data, random):
    place = _place(data, random)
    data[place:place] = data[_span(data, random)]


def _insert(data, random):
    place = _place(data, random)
    data[place:place] = random.randbytes(random.randint(1, 64))


def _fill(data, random):
    span = _span(data, random)
    data[span] = bytes([random.choice((0, 0x20, 0x30, 0x7F, 0xFF))]) * len(data[span])


def _number(data, random):
    """Another number where the file has one in words, as headers of text have."""
    found = list(re.finditer(rb"\d+(\.\d+)?", data[:_PAGE]))
    if found:
        match = random.choice(found)
        number = random.choice(_NUMBERS).encode()
        keep = random.random() < 0.5  # of the same length, so that nothing after it moves
        data[match.start() : match.end()] = number[: len(match[0])].rjust(len(match[0]), b"0") if keep else number


_KINDS = (
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _overwrite,
    _truncate,
    _delete,
    _duplicate,
    _move,
    _insert,
    _fill,
    _number,
)


def mutate_bytes(data, random):
    """`data` with one to three damages; never the same."""
    while True:
        changed = bytearray(data or b"\0")
        for _ in range(random.choice((1, 1, 2, 3))):
            if changed:
                random.choice(_KINDS)(changed, random)
        if changed != data:
            return bytes(changed)


def _in_gzip(data, random):
    return gzip.compress(mutate_bytes(gzip.decompress(data), random), 1, mtime=0)


def _in_tar(data, random):
    changed = bytearray(mutate_bytes(gzip.decompress(data), random))
    for start in range(0, len(changed) - 511, 512):
        if changed[start + 257 : start + 262] == b"ustar":
            changed[start + 148 : start + 156] = b" " * 8
            changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
    return gzip.compress(changed, 1, mtime=0)


def _in_png(data, random):
    chunks, place = [], 8
    while place < len(data):
        size = int.from_bytes(data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    number = random.choice((0, random.randrange(len(chunks))))
    kind, body = chunks[number]
    if kind == b"IDAT" and random.random() < 0.5:
        body = zlib.compress(mutate_bytes(zlib.decompress(body), random))
    else:
        body = mutate_bytes(body, random)
    chunks[number] = kind, body
    parts = [
        struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)


def _masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _in_records(data, random):
    records, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        records.append(data[place + 12 : place + 12 + size])
        place += 16 + size
    number = random.randrange(len(records))
    claimed = None
    if random.random() < 0.2:
        claimed = random.choice((*_INTERESTING, random.getrandbits(64)))
    else:
        records[number] = mutate_bytes(records[number], random)
    parts = []
    for other, record in enumerate(records):
        length = struct.pack("<Q", len(record) if claimed is None or other != number else claimed)
        parts += [length, _masked(length), record, _masked(record)]
    return b"".join(parts)


def _in_mat(data, random):
    size = int.from_bytes(data[132:136], "little")
    inner = zlib.compress(mutate_bytes(zlib.decompress(data[136 : 136 + size]), random))
    return data[:132] + struct.pack("<I", len(inner)) + inner + data[136 + size :]


def _in_zip(data, random):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: (archive.read(info), info.compress_type) for info in archive.infolist()}
    name = random.choice(sorted(entries))
    inner = _in_png if name.endswith(".png") and random.random() < 0.5 else mutate_bytes
    entries[name] = inner(entries[name][0], random), entries[name][1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (content, method) in entries.items():
            archive.writestr(name, content, method)
    return buffer.getvalue()


def _inside(name, data):
    if name.endswith(".tar.gz"):
        return _in_tar
    if name == "chardata.mat":
        return _in_mat if data[128] == 15 else None  # 15: compressed
    inside = {"gz": _in_gzip, "png": _in_png, "zip": _in_zip, "npz": _in_zip}
    inside |= dict.fromkeys(("tfrecord", "tfrecords"), _in_records)
    return inside.get(name.rpartition(".")[2])


def mutate_file(name, data, random):
    """Damages a file.

    Args:
        name: of the file, which tells its format.
        data: bytes.
        random: `random.Random`.

    Returns:
        bytes, other ones. Half of the time, where the format has checksums or compression, they are right and the
        damage is below them.
    """
    inside = _inside(name, data)
    mutate = inside if inside is not None and random.random() < 0.5 else mutate_bytes
    return mutate(data, random)
