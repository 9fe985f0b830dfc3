"""MNIST, Fashion-MNIST with the same file names, stacked MNIST, and scikit-learn's digits."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.digits import find_digits
from nvae_tf.data.sources.idx import find_idx
from tests.data.sources.formats import read
from tests.data.sources.writers import idx_bytes, put, write_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), np.uint8)
MNIST, FASHION = dataset_info("mnist"), dataset_info("fashion_mnist")


@pytest.mark.parametrize("folder", ["mnist", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("other", ["fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_each_data_set_reads_its_own_files(tmp_path, folder, other):
    write_idx(tmp_path / other, {"train": IMAGES[:2]})
    assert find_idx(tmp_path, MNIST) is None
    assert find_idx(tmp_path / other, MNIST) is None
    assert find_idx(tmp_path / other, dataset_info("stacked_mnist")) is None
    assert find_idx(tmp_path / other, FASHION) is not None
    write_idx(tmp_path / folder, {"train": IMAGES[2:]})
    assert find_idx(tmp_path / folder, FASHION) is None
    np.testing.assert_array_equal(read(find_idx(tmp_path, MNIST)["train"]()), IMAGES[2:])
    np.testing.assert_array_equal(read(find_idx(tmp_path, FASHION)["train"]()), IMAGES[:2])


@pytest.mark.parametrize("images, magic", [(IMAGES, 0x801), (IMAGES[:, 1:], 0x803), (IMAGES[:0], 0x803)])
def test_other_content(tmp_path, images, magic):
    put(tmp_path / "train-images-idx3-ubyte", idx_bytes(images, magic))
    with pytest.raises(ValueError, match="ubyte: expected IDX magic 0x00000803 and 28x28 images. Received: magic 0x"):
        find_idx(tmp_path, MNIST)["train"]()


@pytest.mark.parametrize("size", [15, 16 + 50 * 784 - 1, 16 + 50 * 784 + 1])
def test_file_of_another_size(tmp_path, size):
    put(tmp_path / "train-images-idx3-ubyte", (idx_bytes(IMAGES) + b"x")[:size])
    with pytest.raises(ValueError, match=rf"ubyte: expected .* bytes.*Received: {size} "):
        read(find_idx(tmp_path, MNIST)["train"]())


def test_stacked_digits(tmp_path):
    write_idx(tmp_path, {"train": IMAGES})
    make = find_idx(tmp_path, dataset_info("stacked_mnist"))["train"]
    stacked = read(make())
    assert stacked.shape == (50, 28, 28, 3)
    digits = sorted(image.tobytes() for image in IMAGES)
    orders = {tuple(image.tobytes() for image in IMAGES)}
    for channel in range(3):
        plane = [image.tobytes() for image in stacked[..., channel]]
        assert sorted(plane) == digits  # each digit once
        orders.add(tuple(plane))
    assert len(orders) == 4
    np.testing.assert_array_equal(read(make()), stacked)
    np.testing.assert_array_equal(stacked[..., 0], IMAGES[np.random.RandomState(0).permutation(50), ..., 0])


def test_digits():
    splits = {split: read(make()) for split, make in find_digits(None, None).items()}
    train, test = splits["train"], splits["test"]
    assert train.shape == (1437, 16, 16, 1) and test.shape == (360, 16, 16, 1)
    resized = tf.image.resize(load_digits().images[..., np.newaxis], (16, 16), method="bilinear").numpy()
    # Weights in quarters are exact: these are the images, each of them once.
    whole = np.rint(255 / 16 * resized.astype(np.float64)).astype(np.uint8)
    received = sorted(image.tobytes() for image in np.concatenate([train, test]))
    assert received == sorted(image.tobytes() for image in whole)
    # The permutation is fixed, and neither split is a contiguous part of the whole.
    np.testing.assert_array_equal(train[:5], whole[np.random.RandomState(0).permutation(1797)[:5]])
