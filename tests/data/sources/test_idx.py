"""IDX files: whole, compressed, cut short and damaged."""

import gzip
import struct

import numpy as np
import pytest

from nvae_tf.data.mnist import read_idx_images, read_mnist

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)


def idx_bytes(magic=0x803, count=3, height=28, width=28):
    return struct.pack(">4I", magic, count, height, width) + IMAGES.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("split", "stem"), [("train", "train-images"), ("test", "t10k-images")])
def test_reads_plain_and_gzip(tmp_path, suffix, split, stem):
    data = gzip.compress(idx_bytes()) if suffix else idx_bytes()
    (tmp_path / f"{stem}-idx3-ubyte{suffix}").write_bytes(data)
    np.testing.assert_array_equal(read_mnist(tmp_path, split), IMAGES)


@pytest.mark.parametrize("size", [0, 15, 16, 2367])
def test_truncated_plain_file_names_sizes(tmp_path, size):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes()[:size])
    expected = 16 if size < 16 else 16 + 3 * 784
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte: expected .*{expected} bytes.*Received: {size} "):
        read_idx_images(path)


def test_file_that_is_too_long(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes() + b"x")
    with pytest.raises(ValueError, match="expected 2368 bytes for 3 images. Received: 2369 bytes"):
        read_idx_images(path)


def test_truncated_gzip_names_sizes(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes())[:-600])
    with pytest.raises(ValueError, match=r"images.gz: expected 2368 bytes for 3 images. Received: 1?\d+ bytes"):
        read_idx_images(path)


def test_gzip_without_its_end(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes())[:-1])
    with pytest.raises(ValueError, match="damaged end"):
        read_idx_images(path)


def test_damaged_gzip(tmp_path):
    compressed = bytearray(gzip.compress(idx_bytes()))
    compressed[-8] ^= 1  # the checksum
    for name, data in (("checksum.gz", compressed), ("no_gzip.gz", b"<html>not found</html>")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: expected a gzip file. Received: {len(data)} bytes, damaged"):
            read_idx_images(tmp_path / name)


@pytest.mark.parametrize("fields", [{"magic": 0x801}, {"height": 27}, {"width": 29}, {"count": 0}])
def test_other_content(tmp_path, fields):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(**fields))
    with pytest.raises(ValueError, match="images: expected IDX magic 0x00000803 and 28x28 images. Received: magic 0x"):
        read_idx_images(path)


def test_real_mnist(shared_data):
    train, test = read_mnist(shared_data, "train"), read_mnist(shared_data / "mnist", "test")
    assert train.shape == (60000, 28, 28, 1) and test.shape == (10000, 28, 28, 1)
    # The mean and deviation that every program normalises MNIST with.
    assert train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train.std() / 255 == pytest.approx(0.3081, abs=5e-5)
