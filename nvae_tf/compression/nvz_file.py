"""The file format .nvz: a header, then chunks of images that can be read independently.

    8 bytes    89 4E 56 5A 0D 0A 1A 0A, that is "NVZ" within bytes that a transfer as text would change
    uint32     bytes of the header
    ...        the header, JSON in UTF-8: the fields of `Header`
    uint32     CRC-32 of all before
    then, for each chunk:
    uint32     number of words
    16 bytes   BLAKE2b of the number of the first image and the levels, in the order [N, h, w, C]
    uint32     CRC-32 of all before in the chunk and of the words, continued from the CRC-32 of the header and the
               number of the first image, so that a chunk of another file or place does not pass
    ...        the words, uint32: the stack of the entropy coder, its top last

All numbers are little-endian.
"""

import dataclasses
import functools
import hashlib
import json
import os
import struct
import zlib

import numpy as np

from nvae_tf.compression.settings import Settings

VERSION = 1
_MAGIC = b"\x89NVZ\r\n\x1a\n"
_NUMBER, _CHUNK = struct.Struct("<I"), struct.Struct("<I16sI")
_WORD_BYTES = 4


class DamagedFileError(ValueError):
    """A file is damaged, truncated or no .nvz file; the message names it and what is wrong."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of its images, and what is needed to decode them.

    Attributes:
        weights: SHA-256 of the model's weights.
        config: SHA-256 of its configuration.
        shape: that of the array of images, [N, H, W] or [N, H, W, C].
        scale: what a level is multiplied by to give a pixel.
        chunk_images: images of each chunk but the last, which may have fewer.
        settings: the coder's `Settings`.
        software: {package: version} with which the file was written.
        version: of the format. Default `VERSION`.
    """

    weights: str
    config: str
    shape: list
    scale: int
    chunk_images: int
    settings: Settings
    software: dict
    version: int = VERSION

    @property
    def num_images(self):
        return self.shape[0]

    @property
    def num_chunks(self):
        return -(-self.num_images // self.chunk_images)

    def first(self, number):
        """Number of the first image of a chunk."""
        return number * self.chunk_images

    def count(self, number):
        """Number of images of a chunk."""
        return min(self.chunk_images, self.num_images - self.first(number))

    def to_bytes(self):
        """The beginning of a file."""
        text = json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()
        head = _MAGIC + _NUMBER.pack(len(text)) + text
        return head + _NUMBER.pack(zlib.crc32(head))

    @functools.cached_property
    def checksum(self):
        """CRC-32 of all before it in a file."""
        return zlib.crc32(self.to_bytes()[: -_NUMBER.size])

    @classmethod
    def read(cls, file):
        """The header of an open file; raises `DamagedFileError`."""
        head = file.read(len(_MAGIC) + _NUMBER.size)
        if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + _NUMBER.size:
            raise DamagedFileError(f"{file.name}: expected a .nvz file. Received: a file that begins with {head[:8]}")
        (size,) = _NUMBER.unpack(head[len(_MAGIC) :])
        size = min(size, os.fstat(file.fileno()).st_size)  # a damaged size may be that of no memory
        text, end = file.read(size), file.read(_NUMBER.size)
        if end != _NUMBER.pack(zlib.crc32(head + text)):
            raise DamagedFileError(f"{file.name}: expected an intact header. Received: one with another checksum")
        try:
            fields = json.loads(text)
            version = fields["version"]
            header = cls._parse(fields) if version == VERSION else None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedFileError(
                f"{file.name}: expected the fields of a header. Received: {type(error).__name__}: {error}"
            ) from error
        if header is None:
            raise DamagedFileError(f"{file.name}: expected version {VERSION} of the format. Received: {version}")
        return header

    @classmethod
    def _parse(cls, fields):
        settings = fields["settings"] | {"active": tuple(map(tuple, fields["settings"]["active"]))}
        header = cls(**(fields | {"settings": Settings(**settings)}))
        if len(header.shape) not in (3, 4):
            raise ValueError(f"shape: expected 3 or 4 numbers. Received: {header.shape}")
        numbers = {f"shape[{axis}]": size for axis, size in enumerate(header.shape)}
        numbers |= {name: fields[name] for name in ("scale", "chunk_images")}
        numbers |= {name: settings[name] for name in ("steps", "batch_size", "growth")}
        for name, number in numbers.items():
            if type(number) is not int or number < 1 or (name == "scale" and number > 255):
                limit = "from 1 to 255" if name == "scale" else "above 0"
                raise ValueError(f"{name}: expected a whole number {limit}. Received: {number!r}")
        return header


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One chunk as it stands in a file.

    Attributes:
        words: uint32 array, what `ChunkCoder.compress` returned.
        digest: 16 bytes, `pixel_digest` of its images.
    """

    words: np.ndarray
    digest: bytes

    def to_bytes(self, header, number):
        """The bytes of this chunk, chunk `number` of a file with a header."""
        words = self.words.astype("<u4").tobytes()
        head = len(self.words), self.digest
        return _CHUNK.pack(*head, _checksum(header, number, head, words)) + words


def pixel_digest(levels, first):
    """16 bytes that name the levels, uint8 [N, h, w, C], of the images with the numbers first, first + 1, ..."""
    digest = hashlib.blake2b(_NUMBER.pack(first), digest_size=16)
    digest.update(np.ascontiguousarray(levels))
    return digest.digest()


def read_chunks(path, numbers=None):
    """(`Header`, {number: `Chunk`}) of a .nvz file.

    Args:
        path: the file.
        numbers: chunks to read; None for all, then the whole file is checked. Default None.

    Raises:
        DamagedFileError: the file, or one of these chunks, is damaged.
        ValueError: there is no such chunk.
    """
    with open(path, "rb") as file:
        header = Header.read(file)
        if numbers and not set(numbers) <= set(range(header.num_chunks)):
            raise ValueError(f"--chunks: expected numbers below {header.num_chunks}. Received: {max(numbers)}")
        found = {}
        for number in range(header.num_chunks):
            if numbers is None or number in numbers:
                found[number] = read_chunk(file, header, number)
            else:
                _skip_chunk(file, header, number)
        if numbers is None:
            _check_end(file)
    return header, found


def read_chunk(file, header, number):
    """Reads the `Chunk` at the position of an open file, chunk `number`; raises `DamagedFileError`."""
    position, size = file.tell(), os.fstat(file.fileno()).st_size
    where = f"{file.name}: chunk {number} of {header.num_chunks}"
    head = file.read(_CHUNK.size)
    num_words, digest, checksum = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (0, b"", 0)
    if len(head) < _CHUNK.size or position + _CHUNK.size + _WORD_BYTES * num_words > size:
        raise DamagedFileError(
            f"{where}: expected more bytes. Received: the end of the file; it is truncated or damaged"
        )
    words = file.read(_WORD_BYTES * num_words)
    if checksum != _checksum(header, number, (num_words, digest), words):
        raise DamagedFileError(f"{where}: expected an intact chunk. Received: one with another checksum")
    return Chunk(np.frombuffer(words, "<u4"), digest)


def _skip_chunk(file, header, number):
    """Moves the position of an open file from chunk `number` to the next, without reading it."""
    head = file.read(_CHUNK.size)
    if len(head) < _CHUNK.size:
        raise DamagedFileError(f"{file.name}: expected {header.num_chunks} chunks. Received: {number}")
    file.seek(_WORD_BYTES * _CHUNK.unpack(head)[0], os.SEEK_CUR)


def _check_end(file):
    """Raises `DamagedFileError` if an open file goes on."""
    if file.read(1):
        raise DamagedFileError(f"{file.name}: expected the end of the file after the last chunk. Received: more bytes")


def _checksum(header, number, head, words):
    known = zlib.crc32(_NUMBER.pack(header.first(number)), header.checksum)
    return zlib.crc32(words, zlib.crc32(_CHUNK.pack(*head, 0), known))
