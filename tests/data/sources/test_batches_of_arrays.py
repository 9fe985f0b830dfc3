"""Batches of CIFAR-10 and ImageNet: places, order, unexpected content, and malicious pickles."""

import dataclasses
import os
import pathlib
import pickle

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.sources.cifar import find_cifar
from nvae_tf.data.sources.pickled_batches import find_pickled_batches
from tests.data.sources.formats import names, read
from tests.data.sources.writers import cifar_pickle, planes, put, write_cifar_binary

CIFAR, IMAGENET = dataset_info("cifar10"), dataset_info("imagenet32_2021")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


def read_batch(root, data):
    """The training images of a CIFAR-10 with only this batch."""
    put(root / "data_batch_1", data)
    return read(find_cifar(root, CIFAR)["train"]())


def test_cifar_from_the_available_batches(tmp_path):
    put(tmp_path / "test_batch", cifar_pickle(IMAGES))
    assert list(find_cifar(tmp_path, CIFAR)) == ["test"]
    write_cifar_binary(tmp_path, {"train": IMAGES, "test": IMAGES[:1]})
    folder = tmp_path / "cifar-10-batches-bin"
    np.testing.assert_array_equal(read(find_cifar(folder, CIFAR)["train"]()), IMAGES)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", ["data", b"data"])
def test_pickles_of_every_protocol(tmp_path, protocol, key):
    data = pickle.dumps({key: planes(IMAGES), b"labels": [1], "mean": np.zeros(3072), "x": np.float64(1)}, protocol)
    np.testing.assert_array_equal(read_batch(tmp_path, data), IMAGES)


def test_pickle_written_by_python_2(tmp_path):
    # The authors' files were written by Python 2, with 8-bit strings for bytes and NumPy's old module names.
    row = planes(IMAGES[:1]).tobytes()
    data = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + len(row).to_bytes(4, "little") + row + b"tbU\x06labels](K\x09eu."
    )
    np.testing.assert_array_equal(read_batch(tmp_path, data), IMAGES[:1])


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"labels": [1]},
        {b"data": b"no array"},
        {b"data": np.zeros((2, 3072))},
        {b"data": planes(IMAGES)[:, 1:]},
    ],
)
def test_pickle_with_other_content(tmp_path, content):
    with pytest.raises(ValueError, match="data_batch_1: expected .*data'.* Received: "):
        read_batch(tmp_path, pickle.dumps(content))


class Attack:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("function", [exec, os.system])
def test_hostile_pickle_executes_nothing(tmp_path, protocol, function):
    victim = tmp_path / "executed"
    command = f"open({str(victim)!r}, 'w').close()" if function is exec else f"touch {victim}"
    hostile = pickle.dumps({b"data": planes(IMAGES), b"x": Attack(function, command)}, protocol)
    with pytest.raises(ValueError, match="data_batch_1: expected .*does not belong in a batch of images"):
        read_batch(tmp_path, hostile)
    assert not victim.exists()
    pickle.loads(hostile)  # the attack works with the ordinary unpickler
    assert victim.exists()


def write_batch(path, images):
    put(path, pickle.dumps({"data": planes(images)}))


def test_imagenet_in_folders_as_its_archives_make_them(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8)
    write_batch(tmp_path / "Imagenet64_train_part2" / "train_data_batch_6", images[2:4])
    write_batch(tmp_path / "Imagenet64_train_part1" / "train_data_batch_1", images[:2])
    write_batch(tmp_path / "Imagenet64_val" / "val_data", images[4:])
    write_batch(tmp_path / "Imagenet32_train" / "train_data_batch_1", IMAGES)
    splits = find_pickled_batches(tmp_path, dataset_info("imagenet64_2021"))
    np.testing.assert_array_equal(read(splits["train"]()), images[:4])
    np.testing.assert_array_equal(read(splits["validation"]()), images[4:])
    assert find_pickled_batches(tmp_path, IMAGENET)["train"]().num_images == 6


def test_imagenet_names_and_grey_images(tmp_path):
    for number in (9, 10):
        write_batch(tmp_path / f"train_data_batch_{number}", IMAGES)
    split = find_pickled_batches(tmp_path, dataclasses.replace(IMAGENET, channels=1))["train"]()
    assert names(split)[8] == f"{tmp_path}/train_data_batch_10, image 2"
    assert split.source == f"{tmp_path} (train_data_batch_9 to train_data_batch_10)"
    assert np.abs(read(split)[2, ..., 0] - IMAGES[2] @ [0.299, 0.587, 0.114]).max() <= 1


def bytes_read():
    """Number of bytes that this process has read from files."""
    return int(pathlib.Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_imagenet_is_counted_without_reading_it(tmp_path, protocol):
    images = np.zeros((2000, 32, 32, 3), np.uint8)
    put(tmp_path / "val_data", pickle.dumps({"data": planes(images), "labels": [7] * 2000}, protocol))
    make, start = find_pickled_batches(tmp_path, IMAGENET)["validation"], bytes_read()
    split = make()
    assert split.num_images == 2000 and bytes_read() - start < images.nbytes / 10
    np.testing.assert_array_equal(read(split), images)


@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_imagenet_batches_of_another_size(tmp_path, suffix):
    if suffix:
        np.savez(tmp_path / "val_data.npz", data=planes(IMAGES))
    else:
        write_batch(tmp_path / "val_data", IMAGES)
    make = find_pickled_batches(tmp_path, dataset_info("imagenet64_2021"))["validation"]
    with pytest.raises(ValueError, match=rf"val_data{suffix}: expected .*\[N, 12288\]. Received: uint8 \[6, 3072\]"):
        make()
