"""Folders of image files."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources import image_folder
from nvae_tf.data.sources.image_folder import find_image_folder

INFO = dataset_info("folder").with_size(32, 3)


def add(root, *names, value=7):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (value, 0, 0)).save(path, Image.registered_extensions()[path.suffix.lower()])


def found(root, info=INFO):
    """{split: relative paths} of what the source finds."""
    stores = {split: make() for split, make in (find_image_folder(root, info) or {}).items()}
    return {
        split: [os.path.relpath(store.name(index), root) for index in range(len(store))]
        for split, store in stores.items()
    }


def test_images_of_all_suffixes_in_the_order_of_their_paths(tmp_path):
    add(tmp_path, "b.png", "a/z.JPG", "a/b/c.jpeg", "B.Webp", "a.bmp", "c.PNG")
    (tmp_path / "labels.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert found(tmp_path) == {"all": ["B.Webp", "a.bmp", "a/b/c.jpeg", "a/z.JPG", "b.png", "c.PNG"]}


def test_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    store = find_image_folder(tmp_path, INFO)["all"]()
    np.testing.assert_array_equal(store.read(0), pixels)
    assert store.source == str(tmp_path) and store.name(0) == str(tmp_path / "x.png")
    grey = find_image_folder(tmp_path, dataset_info("mnist"))["all"]()
    assert grey.read(0).shape == (5, 4, 1)


def test_split_folders_with_class_folders(tmp_path):
    add(tmp_path, "Training/cat/1.png", "Training/dog/1.png", "TEST/2.png", "val/cat/3.png", "stray.png", "other/4.png")
    assert found(tmp_path) == {
        "train": ["Training/cat/1.png", "Training/dog/1.png"],
        "test": ["TEST/2.png"],
        "validation": ["val/cat/3.png"],
    }


def test_names_of_downsampled_imagenet(tmp_path):
    add(tmp_path, "train_32x32/1.png", "valid_32x32/2.png", "train_64x64/3.png", "valid_64x64/4.png")
    assert found(tmp_path) == {"train": ["train_32x32/1.png"], "validation": ["valid_32x32/2.png"]}
    assert found(tmp_path, dataset_info("imagenet64")) == {
        "train": ["train_64x64/3.png"],
        "validation": ["valid_64x64/4.png"],
    }


@pytest.mark.parametrize("with_train_folder", [False, True])
def test_only_a_test_folder(tmp_path, with_train_folder):
    add(tmp_path, "test/1.png", "bus/2.png")
    if with_train_folder:
        (tmp_path / "train").mkdir()
    assert found(tmp_path) == {"test": ["test/1.png"]}


def test_split_folders_in_the_only_folder(tmp_path):
    add(tmp_path, "unpacked/train/1.png", "unpacked/test/2.png", "__MACOSX/unpacked/train/3.png")
    (tmp_path / "README").write_text("")
    assert found(tmp_path) == {"train": ["unpacked/train/1.png"], "test": ["unpacked/test/2.png"]}


def test_split_folders_below_one_of_several_folders_are_classes(tmp_path):
    add(tmp_path, "a/train/1.png", "b/2.png")
    assert found(tmp_path) == {"all": ["a/train/1.png", "b/2.png"]}


def test_hidden_files_are_left_out(tmp_path):
    add(tmp_path, "x.png", ".hidden.png", "._x.png", ".cache/y.png", "__MACOSX/x.png")
    assert found(tmp_path) == {"all": ["x.png"]}


@pytest.mark.parametrize("names", [[], ["train/notes.txt", "data.npy", ".x.png"]])
def test_no_images(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert find_image_folder(tmp_path, INFO) is None


def test_two_folders_of_one_split(tmp_path):
    add(tmp_path, "train/1.png", "val/2.png", "valid/3.png")
    with pytest.raises(ValueError, match="expected one name for the split 'validation'. Received: val, valid"):
        find_image_folder(tmp_path, INFO)


def test_links_and_loops(tmp_path):
    root = tmp_path / "root"
    add(tmp_path, "elsewhere/1.png", "root/real/2.png")
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "real" / "up").symlink_to(root)
    (root / "same").symlink_to(root / "real")
    assert found(root) == {"all": ["file.png", "linked/1.png", "real/2.png"]}


def test_link_to_nothing(tmp_path):
    add(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    store = find_image_folder(tmp_path, INFO)["all"]()
    assert len(store) == 2
    with pytest.raises(FileNotFoundError, match="b.png"):
        store.read(1)


def test_no_pipe_is_waited_for(tmp_path):
    add(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert found(tmp_path) == {"all": ["a.png"]}


def test_damaged_file(tmp_path):
    add(tmp_path, "a.png", "b.png", "c.png")
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[:-30])
    store = find_image_folder(tmp_path, INFO)["all"]()
    assert store.read(0)[0, 0, 0] == store.read(2)[0, 0, 0] == 7
    with pytest.raises(DamagedImageError, match=rf"{tmp_path}/b.png: expected a PNG.*Received: {len(data) - 30} bytes"):
        store.read(1)


def test_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2**40)
    store = find_image_folder(tmp_path, INFO)["all"]()
    with pytest.raises(DamagedImageError, match=f"a.png: expected at most 268435456 bytes. Received: {2**40}"):
        store.read(0)


def test_a_split_that_nobody_asks_for_is_not_listed(tmp_path, monkeypatch):
    add(tmp_path, *(f"{split}/{index}/1.png" for split in ("train", "test") for index in range(3)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(image_folder.os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    make = find_image_folder(tmp_path, INFO)["train"]
    assert len(make()) == 3
    assert [os.path.relpath(path, tmp_path) for path in listed if "test/" in path] in (["test", "test/0"], ["test/0"])


def test_pickled_store_reads_the_same_and_is_small(tmp_path):
    add(tmp_path, "train/a.png", value=3)
    store = find_image_folder(tmp_path, INFO)["train"]()
    names = [f"n01440764/n01440764_{index:06}.png" for index in range(10_000)]
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(0), store.read(0))
    assert len(pickle.dumps(image_folder.ImageFolderStore(tmp_path, names, 3))) < 40 * len(names)
