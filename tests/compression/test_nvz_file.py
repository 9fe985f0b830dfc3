import dataclasses

import numpy as np
import pytest

from nvae_tf.compression.nvz_file import Chunk, DamagedFileError, Header, pixel_digest, read_chunks
from nvae_tf.compression.settings import Settings

SETTINGS = Settings(steps=32, batch_size=4, growth=3, active=((0, 2), ()))
HEADER = Header("00" * 32, "ff" * 32, [10, 2, 3], 1, 4, SETTINGS, {"tensorflow": "2"})
CHUNKS = [Chunk(np.arange(number, 7 + number, dtype=np.uint32), bytes([number]) * 16) for number in range(3)]


def _write(path, chunks=CHUNKS):
    parts = [chunk.to_bytes(HEADER, number) for number, chunk in enumerate(chunks)]
    path.write_bytes(HEADER.to_bytes() + b"".join(parts))
    return path


def _read(path):
    header, chunks = read_chunks(path)
    return header, list(chunks.values())


def _same(chunks, expected):
    return [(c.words.tolist(), c.digest) for c in chunks] == [(c.words.tolist(), c.digest) for c in expected]


def test_header_and_chunks_come_back(tmp_path):
    header, chunks = _read(_write(tmp_path / "x.nvz"))
    assert header == HEADER
    assert _same(chunks, CHUNKS)
    assert [header.count(number) for number in range(header.num_chunks)] == [4, 4, 2]


def test_a_chunk_is_read_without_the_others(tmp_path):
    content = bytearray(_write(tmp_path / "x.nvz").read_bytes())
    content[len(HEADER.to_bytes()) + 30] ^= 1
    (tmp_path / "x.nvz").write_bytes(content)
    assert _same(read_chunks(tmp_path / "x.nvz", [1])[1].values(), CHUNKS[1:2])
    with pytest.raises(DamagedFileError, match="chunk 0 of 3: expected an intact chunk"):
        read_chunks(tmp_path / "x.nvz", [0])


def test_every_truncation_and_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "x.nvz"
    content = _write(path).read_bytes()
    changed = [content[:size] for size in range(len(content))] + [content + b"\0"]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        changed.append(bytes(flipped))
    for wrong in changed:
        path.write_bytes(wrong)
        with pytest.raises(DamagedFileError) as caught:
            _read(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_chunk_in_another_place_or_file_is_noticed(tmp_path):
    _write(tmp_path / "x.nvz", [CHUNKS[1], CHUNKS[0], CHUNKS[2]])
    _read(tmp_path / "x.nvz")
    head, parts = HEADER.to_bytes(), [chunk.to_bytes(HEADER, number) for number, chunk in enumerate(CHUNKS)]
    (tmp_path / "x.nvz").write_bytes(head + parts[1] + parts[0] + parts[2])
    with pytest.raises(DamagedFileError, match="chunk 0 of 3: expected an intact chunk"):
        _read(tmp_path / "x.nvz")
    other = Header("11" * 32, "ff" * 32, [10, 2, 3], 1, 4, SETTINGS, {"tensorflow": "2"})
    (tmp_path / "x.nvz").write_bytes(other.to_bytes() + b"".join(parts))
    with pytest.raises(DamagedFileError, match="chunk 0 of 3: expected an intact chunk"):
        _read(tmp_path / "x.nvz")


def test_another_version_and_other_files_are_refused(tmp_path):
    later = Header("00", "ff", [1, 2, 3], 1, 4, SETTINGS, {}, version=2)
    for content, message in (
        (later.to_bytes(), "expected version 1 of the format. Received: 2"),
        (b"", "expected a .nvz file. Received: a file that begins with b''"),
        (b"PK\x03\x04" + bytes(100), "expected a .nvz file"),
    ):
        (tmp_path / "x.nvz").write_bytes(content)
        with pytest.raises(DamagedFileError, match=f"x.nvz: {message}"):
            _read(tmp_path / "x.nvz")


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk_images": 0},
        {"shape": [10, -2, 3]},
        {"shape": [10, 6]},
        {"shape": None},
        {"scale": 256},
        {"settings": dataclasses.replace(SETTINGS, batch_size=0)},
        {"settings": dataclasses.replace(SETTINGS, growth=1.5)},
        {"settings": dataclasses.replace(SETTINGS, active=3)},
        {},
    ],
    ids=range(9),
)
def test_headers_of_other_contents_are_refused(fields, tmp_path, monkeypatch):
    header = dataclasses.replace(HEADER, **fields)
    if not fields:
        monkeypatch.setattr(dataclasses, "asdict", lambda _: {})
    (tmp_path / "x.nvz").write_bytes(header.to_bytes())
    with pytest.raises(DamagedFileError, match="x.nvz: expected the fields of a header. Received: ") as caught:
        _read(tmp_path / "x.nvz")
    assert "\n" not in str(caught.value)


def test_the_digest_names_the_images_and_their_place():
    levels = np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2)
    assert len(pixel_digest(levels, 0)) == 16
    assert pixel_digest(levels, 0) != pixel_digest(levels, 1)
    assert pixel_digest(levels, 0) != pixel_digest(levels[::-1], 0)
    assert pixel_digest(levels[::2], 0) == pixel_digest(levels[::2].copy(), 0)


def test_batches_grow():
    assert SETTINGS.batches(1) == [1]
    assert SETTINGS.batches(14) == [1, 1, 1, 2, 2, 3, 4]
    assert sum(SETTINGS.batches(100)) == 100 and max(SETTINGS.batches(100)) == 4
