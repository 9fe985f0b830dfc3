"""CIFAR-10 batches: binary, pickled and archived, cut short and damaged."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.cifar import find_cifar

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
# A row holds the red plane, then green, then blue.
PLANES = np.stack([IMAGES[..., channel].reshape(4, 1024) for channel in range(3)], axis=1).reshape(4, 3072)


def binary_bytes(planes, label=9):
    return b"".join(bytes([label]) + row.tobytes() for row in planes)


INFO = dataset_info("cifar10")


def read(folder, split):
    return find_cifar(folder, INFO)[split]().as_array()


def batch_of(planes):
    names = [b"%d.png" % index for index in range(len(planes))]
    return {b"data": planes, b"labels": [9] * len(planes), b"batch_label": b"batch", b"filenames": names}


def test_binary_batches_are_joined_in_order(tmp_path):
    (tmp_path / "data_batch_2.bin").write_bytes(binary_bytes(PLANES[3:]))
    (tmp_path / "data_batch_1.bin").write_bytes(binary_bytes(PLANES[:3]))
    (tmp_path / "test_batch.bin").write_bytes(binary_bytes(PLANES[1:2]))
    np.testing.assert_array_equal(read(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(read(tmp_path, "test"), IMAGES[1:2])


@pytest.mark.parametrize("size", [0, 3072, 3074, 4 * 3073 - 1])
def test_truncated_binary_batch(tmp_path, size):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary_bytes(PLANES)[:size])
    with pytest.raises(ValueError, match=f"data_batch_1.bin: expected a multiple of 3073 bytes. Received: {size} "):
        read(tmp_path, "train")


def test_binary_batch_with_a_label_out_of_range(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary_bytes(PLANES, label=10))
    with pytest.raises(ValueError, match="expected labels of 0 to 9. Received: 10"):
        read(tmp_path, "train")


def test_pickled_batches(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, rows in ((1, PLANES[:2]), (2, PLANES[2:])):
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch_of(rows), 2))
    assert list(find_cifar(tmp_path, INFO)) == ["train"]
    (folder / "test_batch").write_bytes(pickle.dumps(batch_of(PLANES[1:])))
    np.testing.assert_array_equal(read(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(read(folder, "test"), IMAGES[1:])
    store = find_cifar(folder, INFO)["test"]()
    assert store.name(0) == f"{folder} (test_batch), image 0"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(2), IMAGES[3])


@pytest.mark.parametrize("size", [0, 1000])
def test_truncated_python_batch(tmp_path, size):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch_of(PLANES), 2)[:size])
    with pytest.raises(ValueError, match=rf"data_batch_1: expected a complete pickled dict.*Received: {size} bytes"):
        read(tmp_path, "train")


def test_nothing_there(tmp_path):
    (tmp_path / "data_batch_1.txt").write_bytes(b"x")
    assert find_cifar(tmp_path, INFO) is None


def tar_bytes(files, **attributes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


BINARY = {
    "cifar-10-batches-bin/data_batch_2.bin": binary_bytes(PLANES[3:]),
    "cifar-10-batches-bin/data_batch_1.bin": binary_bytes(PLANES[:3]),
    "cifar-10-batches-bin/readme.html": b"<html>",
    "cifar-10-batches-bin/test_batch.bin": binary_bytes(PLANES[1:2]),
}
PYTHON = {
    "cifar-10-batches-py/data_batch_1": pickle.dumps(batch_of(PLANES[:3]), 2),
    "cifar-10-batches-py/data_batch_2": pickle.dumps(batch_of(PLANES[3:]), 4),
    "cifar-10-batches-py/test_batch": pickle.dumps(batch_of(PLANES[1:2]), 2),
}


@pytest.mark.parametrize(("kind", "files"), [("binary", BINARY), ("python", PYTHON)])
def test_archive_as_downloaded(tmp_path, kind, files):
    (tmp_path / f"cifar-10-{kind}.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
    np.testing.assert_array_equal(read(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(read(tmp_path, "test"), IMAGES[1:2])
    assert [path.name for path in tmp_path.iterdir()] == [f"cifar-10-{kind}.tar.gz"]  # nothing was unpacked


def test_folder_comes_before_archive(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not looked into")
    (tmp_path / "test_batch.bin").write_bytes(binary_bytes(PLANES))
    assert list(find_cifar(tmp_path, INFO)) == ["test"]


WHOLE = gzip.compress(tar_bytes(BINARY))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        WHOLE[:-200],
        WHOLE[:100] + bytes([WHOLE[100] ^ 255]) + WHOLE[101:],
        gzip.compress(tar_bytes(BINARY)[:-12_000]),
        gzip.compress(b"no archive" * 1000),
        gzip.compress(tar_bytes({"other/data_batch_1.txt": b"x"})),
        gzip.compress(tar_bytes(BINARY, type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    ],
)
def test_damaged_archive(tmp_path, data):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"cifar-10-binary.tar.gz: expected .*Received: {len(data)} bytes \(.+\)"):
        read(tmp_path, "test")


def test_damaged_batch_in_an_archive(tmp_path):
    files = {**BINARY, "cifar-10-batches-bin/data_batch_1.bin": b"short"}
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
    with pytest.raises(ValueError, match=r"binary.tar.gz: cifar-10-batches-bin/data_batch_1.bin: expected .*3073"):
        read(tmp_path, "train")
    np.testing.assert_array_equal(read(tmp_path, "test"), IMAGES[1:2])


def test_archive_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.sources.cifar._MAX_ARCHIVE", 20_000)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(tar_bytes(BINARY) + bytes(1000)))
    with pytest.raises(ValueError, match="more than 20000 bytes when unpacked"):
        read(tmp_path, "test")


def test_real_cifar(shared_data):
    train, test = read(shared_data, "train"), read(shared_data / "cifar-10-batches-bin", "test")
    assert train.shape == (10000, 32, 32, 3) and test.shape == (2000, 32, 32, 3)
    # The means that programs normalise CIFAR-10 with, of all 50,000 images; these are 10,000 of them.
    np.testing.assert_allclose(train.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-3)
    # Neighbouring pixels of photographs are alike; those of wrongly ordered axes are not.
    differences = np.abs(np.diff(test.astype(int), axis=2)).mean()
    assert differences < 20
