"""Version 5 .mat files as SciPy writes them: types, compression, damage and bombs."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io

from nvae_tf.data.sources.mat_file import mat_array

VALUES = np.random.default_rng(0).uniform(0, 100, (30, 7))
DAMAGE = (ValueError, struct.error, zlib.error)


def mat_bytes(contents, **arguments):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, contents, **arguments)
    return buffer.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
def test_types(compressed, dtype):
    contents = {
        "text": "words",
        "x": VALUES.astype(dtype),
        "a_longer_name": VALUES[:1, :1].astype(dtype),
        "s": {"x": 1},
    }
    data = mat_bytes(contents, do_compression=compressed)
    for name in ("x", "a_longer_name"):
        array = mat_array(data, name, 10_000)
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, contents[name])
    assert mat_array(data, "y", 10_000) is None


def test_big_endian_and_compact_storage():
    # As MATLAB writes: a double array whose values are all small integers is stored in bytes, 2x2 in the tag itself.
    matrix = (
        struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 2, 2) + struct.pack(">HH4s", 1, 1, b"x\0\0\0")
    )
    matrix += struct.pack(">HH4B", 4, 2, 1, 2, 3, 4)
    data = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">HH", 0x0100, 0x4D49) + struct.pack(">II", 14, len(matrix))
    np.testing.assert_array_equal(scipy.io.loadmat(io.BytesIO(data + matrix))["x"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(mat_array(data + matrix, "x", 10), [[1, 3], [2, 4]])


@pytest.mark.parametrize("contents", [{"x": VALUES * 1j}, {"x": "words"}, {"x": {"y": 1}}, {"x": scipy.sparse.eye(3)}])
def test_no_real_numbers(contents):
    with pytest.raises(ValueError, match="'x', which is no array of real numbers"):
        mat_array(mat_bytes(contents), "x", 10_000)


def test_other_versions():
    for data in (mat_bytes({"x": VALUES}, format="4"), b"", b"\x89HDF\r\n".ljust(200), b"x" * 200):
        with pytest.raises(ValueError, match="none of version 5"):
            mat_array(data, "x", 10_000)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_length_is_noticed(compressed):
    data = mat_bytes({"x": VALUES}, do_compression=compressed)
    for size in (*range(129, 300), *range(300, len(data), 37), len(data) - 1):
        with pytest.raises(DAMAGE):
            mat_array(data[:size], "x", 10_000)


@pytest.mark.parametrize("compressed", [False, True])
def test_random_damage_raises_no_other_error(compressed):
    whole, random = mat_bytes({"w": VALUES, "x": VALUES}, do_compression=compressed), np.random.default_rng(1)
    failed = 0
    for _ in range(2000):
        data = bytearray(whole)
        for place in random.integers(100, 240, 3):
            data[place] = random.integers(256)
        try:
            array = mat_array(bytes(data), "x", 10_000)
            assert array is None or array.nbytes <= 10_000
        except DAMAGE:
            failed += 1
    assert failed > 500


@pytest.mark.parametrize("compressed", [False, True])
def test_array_that_is_too_large(compressed):
    data = mat_bytes({"w": np.zeros((5000, 1000)), "x": np.zeros((5000, 1000))}, do_compression=compressed)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"'x' of \d+ bytes, more than 10000"):
            mat_array(data, "x", 10_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_compressed_array_that_unpacks_to_more_than_it_says():
    data = mat_bytes({"x": VALUES})
    bomb = zlib.compress(data[128:] + bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"'x' of 17\d\d bytes, of which 17\d\d can be unpacked"):
            mat_array(data[:128] + struct.pack("<II", 15, len(bomb)) + bomb, "x", 10_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
