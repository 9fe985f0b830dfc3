"""Broken image files beside correct requests: each is refused by the name of its input and harms no other."""

import concurrent.futures
import io
import math
import struct
import zlib

import grpc
import numpy as np
import PIL.Image
import pytest
from tensorflow.core.framework.tensor_pb2 import TensorProto

_THREADS = 16


def _file(array, kind="PNG"):
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, kind)
    return file.getvalue()


def _png_claiming(height, width):
    """A PNG with this size in its header and the data of another."""
    data = _file(np.zeros([6, 6], np.uint8))
    header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


_PIXELS = np.random.default_rng(0).integers(0, 256, [40, 30, 3], np.uint8)
_PNG, _JPEG = _file(_PIXELS), _file(_PIXELS, "JPEG")
_SIZE_IN_JPEG = _JPEG.index(b"\xff\xc0") + 5
_GOOD_FILES = [_PNG, _JPEG, _file(_PIXELS[:6, :6, 0]), _file(_PIXELS[:1])]
_BAD_FILES = [
    *(b"", b"no image", _file(_PIXELS[..., 0], "GIF")),
    *(_PNG[:8], _PNG[:33], _PNG[: len(_PNG) // 2], _PNG[:60] + bytes([_PNG[60] ^ 1]) + _PNG[61:]),
    *(_png_claiming(*size) for size in ((0, 6), (4000, 4000), (60_000, 60_000), (2**31 - 1, 2**31 - 1))),
    *(_JPEG[:3], _JPEG[: len(_JPEG) // 2], _JPEG[:_SIZE_IN_JPEG] + b"\xff" * 4 + _JPEG[_SIZE_IN_JPEG + 4 :]),
]
_BAD_TENSORS = [TensorProto(dtype=7, tensor_content=b"123"), np.array(_PNG, object), np.array([], object), np.zeros(1)]


def test_broken_files_beside_correct_ones(stand_in):
    def encode(value):
        return stand_in.predict("encode", {"image_bytes": value})["kl_per_group"]

    expected = encode(_GOOD_FILES)
    bad = [*([file] for file in _BAD_FILES), *_BAD_TENSORS]

    def ask(number):
        if number % 2:
            with pytest.raises(grpc.RpcError, match="image_bytes|[Bb]atch") as error:
                encode(bad[number // 2 % len(bad)])
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            return
        row = number // 2 % len(_GOOD_FILES)
        for _ in range(100):
            try:
                return np.testing.assert_allclose(encode([_GOOD_FILES[row]])[0], expected[row], rtol=1e-4, atol=1e-4)
            except grpc.RpcError as error:
                # A file of another request in the batch was broken; then clients send theirs again.
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        raise AssertionError("expected an answer at last")

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(ask, range(6 * len(bad))))
    assert stand_in.process.poll() is None
    assert stand_in.states() == {1: "AVAILABLE"}


def test_png_at_the_limit_and_beyond(stand_in):
    side = math.isqrt(4096 * 4096)
    black, limit, beyond = (_file(np.zeros([rows, side], np.uint8)) for rows in (side // 64, side, side + 1))
    received, expected = (stand_in.predict("encode", {"image_bytes": [file]}) for file in (limit, black))
    np.testing.assert_allclose(received["kl_per_group"], expected["kl_per_group"], rtol=1e-4, atol=1e-4)
    with pytest.raises(grpc.RpcError, match="image_bytes: expected an image of 1 to"):
        stand_in.predict("encode", {"image_bytes": [beyond]})
