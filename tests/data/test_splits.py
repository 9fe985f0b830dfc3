"""From a data set's name and folder to its images."""

import gzip

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.splits import open_images, open_splits, seeded_split

FOLDER = dataset_info("folder").with_size(4, 3)


def write_images(folder, values, size=4):
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("RGB", (size, size), (value, value, value)).save(folder / f"{value:03}.png")


def values(store):
    return [int(store.read(index)[0, 0, 0]) for index in range(len(store))]


def test_real_mnist(shared_data):
    info = dataset_info("mnist")
    # Of the whole set, as widely published: mean 0.1307 of the training pixels, first labels 5, 0, 4 and 7, 2, 1.
    for split, stem, count, mean, labels in (
        ("train", "train", 60_000, 0.1306604762738429, [5, 0, 4, 1, 9]),
        ("test", "t10k", 10_000, 0.1325146, [7, 2, 1, 0, 4]),
    ):
        images = open_images(info, shared_data, split).as_array()
        assert images.dtype == np.uint8 and images.shape == (count, 28, 28, 1)
        assert images.mean() / 255 == pytest.approx(mean, abs=1e-6)
        with gzip.open(shared_data / "mnist" / f"{stem}-labels-idx1-ubyte.gz") as file:
            found = np.frombuffer(file.read(), np.uint8, offset=8)
        assert len(found) == count and found[:5].tolist() == labels
        # The images go with the labels: a one is thinner than a zero.
        ink = [images[found == digit].mean() for digit in (0, 1)]
        assert ink[0] > 2 * ink[1]


def test_real_cifar(shared_data):
    info = dataset_info("cifar10")
    images = {split: open_images(info, shared_data, split).as_array() for split in ("train", "test")}
    assert images["train"].shape[1:] == images["test"].shape[1:] == (32, 32, 3) and len(images["test"]) >= 2000
    # Known means of the whole set's channels, of which these files are a part.
    np.testing.assert_allclose(images["train"].mean(axis=(0, 1, 2)), [125.31, 122.95, 113.87], atol=1.0)
    records = np.fromfile(shared_data / "cifar-10-batches-bin" / "data_batch_1.bin", np.uint8).reshape(-1, 3073)
    assert set(records[:, 0]) == set(range(10))
    red, green, blue = records[7, 1:].reshape(3, 32, 32)
    np.testing.assert_array_equal(images["train"][7], np.stack([red, green, blue], axis=-1))


def test_a_split_is_made_where_there_is_none(tmp_path):
    write_images(tmp_path, range(30))
    train, test = (values(open_images(FOLDER, tmp_path, split)) for split in ("train", "test"))
    assert len(test) == 3 and sorted(train + test) == list(range(30)) and train == sorted(train)
    other = values(open_images(FOLDER, tmp_path, "test", split_seed=1, test_fraction=0.5))
    assert len(other) == 15


def test_the_only_held_out_images_are_the_test_images(tmp_path):
    write_images(tmp_path / "train", range(5))
    write_images(tmp_path / "val", range(5, 8))
    source, splits = open_splits(FOLDER, tmp_path)
    assert source == "image_folder" and set(splits) == {"train", "test"} and values(splits["test"]()) == [5, 6, 7]


def test_three_splits(tmp_path):
    for start, name in enumerate(("train", "validation", "test")):
        write_images(tmp_path / name, range(3 * start, 3 * start + 3))
    assert [values(open_images(FOLDER, tmp_path, s))[0] for s in ("train", "validation", "test")] == [0, 3, 6]


def test_seeded_split():
    assert [len(part) for part in seeded_split(10, 3, 0).values()] == [7, 3]
    assert [len(part) for part in seeded_split(10, 0.01, 0).values()] == [9, 1]
    assert seeded_split(100, 3, 0)["test"].tolist() == [2, 26, 86]  # what it must stay
    with pytest.raises(ValueError, match="expected more than 1 images, of which 1 are held out. Received: 1"):
        seeded_split(1, 0.1, 0)


def test_wrong_size(tmp_path):
    write_images(tmp_path, range(3), size=5)
    with pytest.raises(ValueError, match=r"00\d.png: expected an image of 4x4 .* or data.resize=True. Received: 5x5"):
        open_images(FOLDER, tmp_path, "train").read(0)
    assert open_images(FOLDER, tmp_path, "train", resize=True).read(0).shape == (4, 4, 3)


def test_unknown_split():
    with pytest.raises(ValueError, match="split: expected one of .*train.*test.* Received: 'valid'"):
        open_images(dataset_info("digits"), None, "valid")


def test_a_split_that_is_not_there():
    with pytest.raises(ValueError, match=r"split: digits as found \(digits\) has \['test', 'train'\]"):
        open_images(dataset_info("digits"), None, "validation")


@pytest.mark.parametrize("data_dir", [None, ""])
def test_data_dir_not_given(data_dir):
    with pytest.raises(
        ValueError, match="data_dir: expected a folder with mnist .*Received: none\n(.*\n)*  idx: train-"
    ):
        open_images(dataset_info("mnist"), data_dir, "train")


def test_data_dir_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir: expected an existing folder. Received: .*nowhere"):
        open_images(dataset_info("cifar10"), tmp_path / "nowhere", "train")


def test_what_is_there_and_what_was_looked_for(tmp_path):
    for index in range(25):
        (tmp_path / f"file{index:02}.txt").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as caught:
        open_images(dataset_info("cifar10"), tmp_path, "test")
    message = str(caught.value)
    for part in ("file19.txt and 5 more", "data_batch_1.bin", "cifar-10-python.tar.gz", "manifest.json", ".zip file"):
        assert part in message
    assert "file20" not in message


def test_the_other_imagenet_is_told(tmp_path):
    batch = {"data": np.zeros((2, 3 * 32 * 32), np.uint8), "labels": np.zeros(2, np.int64)}
    np.savez(tmp_path / "train_data_batch_1.npz", **batch)
    np.savez(tmp_path / "val_data.npz", **batch)
    with pytest.raises(ValueError, match="holds imagenet32_2021, expected imagenet32. .* not comparable"):
        open_images(dataset_info("imagenet32"), tmp_path, "train")
    assert len(open_images(dataset_info("imagenet32_2021"), tmp_path, "train")) == 2
