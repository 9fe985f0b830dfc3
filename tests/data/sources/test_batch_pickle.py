"""Pickled batches: of every protocol, cut short and hostile."""

import pickle
import pickletools
import tracemalloc

import numpy as np
import pytest

from nvae_tf.data.sources.batch_pickle import map_file, pickled_rows

PLANES = np.random.default_rng(0).integers(0, 256, (40, 3072), np.uint8)


def batch_of(planes, key=b"data"):
    names = [b"%d.png" % index for index in range(len(planes))]
    return {key: planes, b"labels": [9] * len(planes), "mean": np.zeros(3072), b"filenames": names}


def read(path):
    return pickled_rows(map_file(path), 3072, str(path))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("num_images", [2, 40])  # below and above the size that is left where it is
def test_every_protocol(tmp_path, protocol, num_images):
    for rows in (PLANES[:num_images], np.asfortranarray(PLANES[:num_images])):
        for key in (b"data", "data"):
            path = tmp_path / "batch"
            path.write_bytes(pickle.dumps(batch_of(rows, key), protocol))
            np.testing.assert_array_equal(read(path), rows)
            np.testing.assert_array_equal(pickled_rows(path.read_bytes(), 3072, "batch"), rows)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_large_batch_is_not_copied(tmp_path, protocol):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": np.zeros((3000, 3072), np.uint8), "labels": [1] * 3000}, protocol))
    tracemalloc.start()
    try:
        rows = read(path)
        assert rows.shape == (3000, 3072) and tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_python_batch_as_python_2_wrote_it(tmp_path):
    # The authors' files come from Python 2: 8-bit strings where Python 3 has bytes, and NumPy's old module names.
    row = PLANES[:1].tobytes()
    data = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + len(row).to_bytes(4, "little") + row + b"tbU\x06labels](K\x09eu."
    )
    pickletools.dis(data, out=open(tmp_path / "listing", "w"))  # raises if it is no pickle
    (tmp_path / "data_batch_1").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "data_batch_1"), PLANES[:1])


@pytest.mark.parametrize("size", [0, 1, 200, 4000])
def test_truncated_python_batch(tmp_path, size):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch_of(PLANES[:4]), 2)[:size])
    with pytest.raises(ValueError, match=rf"data_batch_1: expected a complete pickled dict.*Received: {size} bytes"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"labels": [1]},
        {b"data": b"no array"},
        {b"data": PLANES.astype(np.float32)},
        {b"data": PLANES[:, :-1]},
        {b"data": PLANES[:0]},
        {b"data": np.array([[None]])},
    ],
)
def test_python_batch_with_other_content(tmp_path, content):
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="test_batch: expected"):
        read(path)


class _Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("function", [exec, eval, "system", "getattr"])
def test_hostile_pickle_executes_nothing(tmp_path, protocol, function):
    victim = tmp_path / "executed"
    code = f"open({str(victim)!r}, 'w').close()"
    if function == "system":
        # Written by hand: pickle would name the platform's module instead.
        hostile = b"cos\nsystem\n(S" + repr(f"touch {victim}").encode() + b"\ntR."
    elif function == "getattr":
        hostile = pickle.dumps({b"data": PLANES, b"x": _Call(getattr, {}, "keys")}, protocol)
    else:
        hostile = pickle.dumps({b"data": PLANES, b"x": _Call(function, code)}, protocol)
    path = tmp_path / "data_batch_1"
    path.write_bytes(hostile)
    with pytest.raises(ValueError, match="data_batch_1: expected .*has no place in a batch of images"):
        read(path)
    assert not victim.exists()
    if function in (exec, eval):
        pickle.loads(hostile)  # the attack works on the ordinary unpickler
        assert victim.exists()


def test_pickle_with_another_codec(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(ValueError, match="codec 'rot13'"):
        read(path)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a table of 2**31 memorised values
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",  # a bytearray of a terabyte
        b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b".",  # a frame
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.",  # a key whose hash needs more stack than there is
        b"\x80\x02(" + b")" + b"\x85" * 200_000 + b"Nd.",
        b"\x80\x04\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01aK\x01sb.",  # attributes for a function
        # One text encoded again and again.
        b"\x80\x02X\x10\x27\x00\x00" + b"a" * 10_000 + b"q\x00]("
        b"c_codecs\nencode\nq\x01h\x00X\x06\x00\x00\x00latin1q\x02\x86R" + b"h\x01h\x00h\x02\x86R" * 5_000 + b"e.",
    ],
)
def test_hostile_pickle_takes_little_memory(hostile):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"batch: expected .*Received: {len(hostile)} bytes"):
            pickled_rows(hostile, 3072, "batch")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000 + 70 * len(hostile)
    finally:
        tracemalloc.stop()
