"""CIFAR-10 batches: binary, pickled, cut short and hostile."""

import pickle
import pickletools

import numpy as np
import pytest

from nvae_tf.data.cifar import read_binary_batch, read_cifar10, read_python_batch

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
# A row holds the red plane, then green, then blue.
PLANES = np.stack([IMAGES[..., channel].reshape(4, 1024) for channel in range(3)], axis=1).reshape(4, 3072)


def binary_bytes(planes, label=9):
    return b"".join(bytes([label]) + row.tobytes() for row in planes)


def batch_of(planes):
    names = [b"%d.png" % index for index in range(len(planes))]
    return {b"data": planes, b"labels": [9] * len(planes), b"batch_label": b"batch", b"filenames": names}


def test_binary_batches_are_joined_in_order(tmp_path):
    (tmp_path / "data_batch_2.bin").write_bytes(binary_bytes(PLANES[3:]))
    (tmp_path / "data_batch_1.bin").write_bytes(binary_bytes(PLANES[:3]))
    (tmp_path / "test_batch.bin").write_bytes(binary_bytes(PLANES[1:2]))
    np.testing.assert_array_equal(read_cifar10(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(read_cifar10(tmp_path, "test"), IMAGES[1:2])


@pytest.mark.parametrize("size", [0, 3072, 3074, 4 * 3073 - 1])
def test_truncated_binary_batch(tmp_path, size):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary_bytes(PLANES)[:size])
    with pytest.raises(ValueError, match=f"data_batch_1.bin: expected a multiple of 3073 bytes. Received: {size} "):
        read_binary_batch(path)


def test_binary_batch_with_a_label_out_of_range(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary_bytes(PLANES, label=10))
    with pytest.raises(ValueError, match="expected labels of 0 to 9. Received: 10"):
        read_binary_batch(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_python_batches_of_every_protocol(tmp_path, protocol):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, rows in ((1, PLANES[:2]), (2, np.asfortranarray(PLANES[2:]))):
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch_of(rows), protocol))
    (folder / "test_batch").write_bytes(pickle.dumps(batch_of(PLANES), protocol))
    np.testing.assert_array_equal(read_cifar10(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(read_cifar10(folder, "test"), IMAGES)


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
    np.testing.assert_array_equal(read_cifar10(tmp_path, "train"), IMAGES[:1])


@pytest.mark.parametrize("size", [0, 1, 200, 4000])
def test_truncated_python_batch(tmp_path, size):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch_of(PLANES), 2)[:size])
    with pytest.raises(ValueError, match=rf"data_batch_1: expected a complete pickled dict.*Received: {size} bytes"):
        read_python_batch(path)


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
        read_python_batch(path)


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
        read_cifar10(tmp_path, "train")
    assert not victim.exists()
    if function in (exec, eval):
        pickle.loads(hostile)  # the attack works on the ordinary unpickler
        assert victim.exists()


def test_pickle_with_another_codec(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(ValueError, match="codec 'rot13'"):
        read_python_batch(path)


def test_real_cifar(shared_data):
    train, test = read_cifar10(shared_data, "train"), read_cifar10(shared_data / "cifar-10-batches-bin", "test")
    assert train.shape == (10000, 32, 32, 3) and test.shape == (2000, 32, 32, 3)
    # The means that programs normalise CIFAR-10 with, of all 50,000 images; these are 10,000 of them.
    np.testing.assert_allclose(train.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-3)
    # Neighbouring pixels of photographs are alike; those of wrongly ordered axes are not.
    differences = np.abs(np.diff(test.astype(int), axis=2)).mean()
    assert differences < 20
