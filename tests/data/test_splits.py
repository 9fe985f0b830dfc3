"""Opening the images of a data set by its name and folder."""

import numpy as np
import pytest
from PIL import Image

from nvae_tf.config import DataConfig
from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.splits import open_images, open_splits, seeded_split

FOLDER = dataset_info("folder").with_size(4, 3)


def write_images(folder, values, size=4):
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("RGB", (size, size), (value, value, value)).save(folder / f"{value:03}.png")


def values(images):
    return [int(image[0, 0, 0]) for _, image in images.read()]


def test_a_split_is_made_where_there_is_none(tmp_path):
    write_images(tmp_path, range(30))
    train, test = (values(open_images(FOLDER, tmp_path, split)) for split in ("train", "test"))
    assert len(test) == 3 and sorted(train + test) == list(range(30)) and train == sorted(train)
    other = values(open_images(FOLDER, tmp_path, "test", DataConfig(split_seed=1, test_fraction=0.5)))
    assert len(other) == 14


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
    assert seeded_split(100, 3, 0)["test"].tolist() == [2, 26, 86]  # must never change
    with pytest.raises(ValueError, match="expected more than 1 images, of which 1 are held out. Received: 1"):
        seeded_split(1, 0.1, 0)


def test_a_split_by_names_keeps_every_image_on_its_side_when_others_come():
    names = [f"{number:04}.png" for number in range(1000)]
    assert [names[i] for i in seeded_split(20, 0.1, 0, names[:20])["test"]] == ["0010.png"]  # must never change
    sides = {}
    for count in (100, 101, 1000):
        parts = seeded_split(count, 0.1, 0, names[:count])
        assert not set(parts["train"]) & set(parts["test"]) and sum(map(len, parts.values())) == count
        assert sides.get("test", set()) <= set(parts["test"]) and sides.get("train", set()) <= set(parts["train"])
        sides = {split: set(part) for split, part in parts.items()}
    other_seed = seeded_split(1000, 0.1, 1, names)["test"]
    assert 70 < len(parts["test"]) < 130 and not np.array_equal(parts["test"], other_seed)
    other_formats = [name.replace(".png", ".jpeg") for name in names]
    np.testing.assert_array_equal(seeded_split(1000, 0.1, 0, other_formats)["test"], parts["test"])
    assert len(seeded_split(1000, 30, 0, names)["test"]) == 30


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_no_side_of_a_small_folder_is_empty(count, fraction):
    for seed in range(20):
        assert all(map(len, seeded_split(count, fraction, seed, range(count)).values()))


@pytest.mark.parametrize(
    ("name", "data_dir", "split", "message"),
    [
        ("digits", None, "valid", r"split: digits as found \(digits\) has \['test', 'train'\]. Received: 'valid'"),
        ("mnist", None, "train", "data_dir: expected a folder with mnist .*Received: none\n(.*\n)*  idx: train-"),
        ("mnist", "", "train", "data_dir: expected a folder with mnist .*Received: none"),
        ("cifar10", "nowhere", "train", "data_dir: expected an existing folder. Received: 'nowhere'"),
    ],
)
def test_wrong_split_or_folder(name, data_dir, split, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_images(dataset_info(name), data_dir, split)


def test_error_lists_the_contents_and_the_expected_formats(tmp_path):
    for index in range(25):
        (tmp_path / f"file{index:02}.txt").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as caught:
        open_images(dataset_info("cifar10"), tmp_path, "test")
    message = str(caught.value)
    forms = ("data_batch_1.bin", "cifar-10-python.tar.gz", "manifest.json", ".zip file")
    for part in ("file19.txt and 5 more", "files: .txt (25: file00.txt", *forms):
        assert part in message
    assert "file20" not in message


def test_the_other_imagenet_is_named(tmp_path):
    batch = {"data": np.zeros((2, 3 * 32 * 32), np.uint8), "labels": np.zeros(2, np.int64)}
    np.savez(tmp_path / "train_data_batch_1.npz", **batch)
    np.savez(tmp_path / "val_data.npz", **batch)
    with pytest.raises(ValueError, match="holds imagenet32_2021, expected imagenet32. .* not comparable"):
        open_images(dataset_info("imagenet32"), tmp_path, "train")
    assert len(open_images(dataset_info("imagenet32_2021"), tmp_path, "train")) == 2
