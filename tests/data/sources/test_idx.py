"""IDX files: whole, compressed, cut short and damaged."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.idx import find_idx, find_stacked_idx, read_idx_images

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)


MNIST, FASHION = dataset_info("mnist"), dataset_info("fashion_mnist")
BOTH = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}


def idx_bytes(magic=0x803, count=3, height=28, width=28, images=IMAGES):
    return struct.pack(">4I", magic, count, height, width) + images.tobytes()


def write_split(folder, split="train", images=IMAGES):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BOTH[split]).write_bytes(idx_bytes(count=len(images), images=images))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_plain_and_gzip(tmp_path, suffix, split):
    data = gzip.compress(idx_bytes()) if suffix else idx_bytes()
    (tmp_path / f"{BOTH[split]}{suffix}").write_bytes(data)
    splits = find_idx(tmp_path, MNIST)
    assert list(splits) == [split]  # what is not there is not promised
    store = splits[split]()
    np.testing.assert_array_equal(store.as_array(), IMAGES)
    np.testing.assert_array_equal(store.read(1), IMAGES[1])
    assert len(store) == 3 and store.name(1) == f"{tmp_path}/{BOTH[split]}{suffix}, image 1"


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST", "MNIST/raw"])
def test_folders_of_mnist(tmp_path, folder):
    write_split(tmp_path / folder)
    write_split(tmp_path / folder, "test", IMAGES[:1])
    splits = find_idx(tmp_path, MNIST)
    assert {split: len(make()) for split, make in splits.items()} == {"train": 3, "test": 1}


@pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_each_takes_its_own_of_two_data_sets(tmp_path, folder):
    write_split(tmp_path / folder, images=IMAGES[:2])
    assert find_idx(tmp_path, MNIST) is None
    assert find_idx(tmp_path / folder, MNIST) is None
    assert find_stacked_idx(tmp_path / folder, dataset_info("stacked_mnist")) is None
    assert find_idx(tmp_path / folder, FASHION) is not None
    write_split(tmp_path / "MNIST/raw", images=IMAGES[2:])
    assert find_idx(tmp_path / "MNIST/raw", FASHION) is None
    np.testing.assert_array_equal(find_idx(tmp_path, MNIST)["train"]().as_array(), IMAGES[2:])
    np.testing.assert_array_equal(find_idx(tmp_path, FASHION)["train"]().as_array(), IMAGES[:2])


def test_nothing_there(tmp_path):
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"x")
    assert find_idx(tmp_path, MNIST) is None and find_stacked_idx(tmp_path, MNIST) is None


def test_stacked_digits(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (50, 28, 28, 1), np.uint8)
    write_split(tmp_path, images=images)
    make = find_stacked_idx(tmp_path, dataset_info("stacked_mnist"))["train"]
    stacked = make().as_array()
    assert stacked.shape == (50, 28, 28, 3)
    digits = sorted(image.tobytes() for image in images)
    orders = []
    for channel in range(3):
        plane = [image.tobytes() for image in stacked[..., channel]]
        assert sorted(plane) == digits  # each digit once
        orders.append(tuple(plane))
    assert len({*orders, tuple(image.tobytes() for image in images)}) == 4
    np.testing.assert_array_equal(make().as_array(), stacked)
    expected = np.random.RandomState(0).permutation(50)
    np.testing.assert_array_equal(stacked[..., 0], images[expected, ..., 0])


def test_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes() + bytes(100_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected 2368 bytes for 3 images. Received: 2369 bytes or more"):
            read_idx_images(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_header_that_claims_more_than_there_is(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(count=2**32 - 1)))
    with pytest.raises(ValueError, match=f"expected {16 + (2**32 - 1) * 784} bytes.*Received: 2368 bytes"):
        read_idx_images(path)


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
    train = find_idx(shared_data, MNIST)["train"]().as_array()
    test = find_idx(shared_data / "mnist", MNIST)["test"]().as_array()
    assert train.shape == (60000, 28, 28, 1) and test.shape == (10000, 28, 28, 1)
    # The mean and deviation that every program normalises MNIST with.
    assert train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train.std() / 255 == pytest.approx(0.3081, abs=5e-5)
