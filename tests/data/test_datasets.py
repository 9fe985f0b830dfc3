"""The table of data sets and what `load` says when it cannot."""

import numpy as np
import pytest

from nvae_tf.config import LIKELIHOODS
from nvae_tf.data.cifar import read_cifar10
from nvae_tf.data.datasets import DATASETS, dataset_info, load
from nvae_tf.data.mnist import read_mnist


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_images_are_what_the_table_says(name, shared_data):
    info = dataset_info(name)
    images = load(name, shared_data, "test")
    assert info.name == name and info.likelihood in LIKELIHOODS
    assert images.dtype == np.uint8
    assert images.shape[1:] == (info.image_height, info.image_width, info.channels)


def test_published_preparation():
    assert [DATASETS["mnist"].binarize, DATASETS["mnist"].horizontal_flip, DATASETS["mnist"].padding] == [1, 0, 2]
    assert [DATASETS["cifar10"].binarize, DATASETS["cifar10"].horizontal_flip, DATASETS["cifar10"].padding] == [0, 1, 0]
    assert DATASETS["digits"].levels == 17


def test_mnist_is_padded_by_zeros_on_every_side(shared_data):
    padded = load("mnist", shared_data, "test")
    np.testing.assert_array_equal(padded[:, 2:30, 2:30], read_mnist(shared_data, "test"))
    padded[:, 2:30, 2:30] = 0
    assert padded.max() == 0


def test_cifar_is_not_padded(shared_data):
    np.testing.assert_array_equal(load("cifar10", shared_data, "test"), read_cifar10(shared_data, "test"))


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"dataset: expected one of \['cifar10', 'digits', 'mnist'\]. Received: 'mnst'"
    ):
        load("mnst", None, "train")


def test_unknown_split():
    with pytest.raises(ValueError, match="split: expected one of .*train.*test.* Received: 'valid'"):
        load("digits", None, "valid")


@pytest.mark.parametrize("data_dir", [None, ""])
def test_data_dir_not_given(data_dir):
    with pytest.raises(ValueError, match="data_dir: expected the folder with train-images-idx3-ubyte"):
        load("mnist", data_dir, "train")


def test_data_dir_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir: expected an existing folder. Received: .*nowhere"):
        load("cifar10", tmp_path / "nowhere", "train")


def test_missing_files_are_told_with_what_is_there(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist", tmp_path, "train")
    message = str(caught.value)
    for part in ("train-images-idx3-ubyte.gz", f"{folder} holds t10k-images-idx3-ubyte", "mnist/, notes.txt"):
        assert part in message


def test_a_folder_is_not_taken_for_a_file(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(FileNotFoundError, match="expected train-images-idx3-ubyte or"):
        load("mnist", tmp_path, "train")


def test_long_listings_are_cut(tmp_path):
    for index in range(25):
        (tmp_path / f"file{index:02}").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="file19 and 5 more$"):
        load("cifar10", tmp_path, "test")
