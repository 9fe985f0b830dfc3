"""Names that stand for splits, and the images that are taken because of them."""

import pytest

from nvae_tf.data.sources.names import choose_splits
from nvae_tf.data.sources.selection import describe, splits_by_folder


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TEST", "test"),
        ("testing", "test"),
        ("validation", "validation"),
        ("valid", "validation"),
        ("Val", "validation"),
        ("valid_64x64", "validation"),
        ("x_train", "train"),
        ("test_x", "test"),
        ("val_images", "validation"),
        ("Dev", "validation"),
        ("holdout", "test"),
        ("train2017", "train"),
        *((name, None) for name in ("trains", "retrain", "y_train", "train_data_batch_1", "val_data", "train_32", "")),
    ],
)
def test_names_of_splits(name, split):
    assert choose_splits([name], 32, "here") == ({split: name} if split else {})
    assert choose_splits([f"{name}.zip"], 32, "here") == ({split: f"{name}.zip"} if split else {})


@pytest.mark.parametrize(
    ("names", "size", "chosen"),
    [
        (["train_32x32", "train_64x64"], 64, "train_64x64"),
        (["train", "train_64x64"], 64, "train_64x64"),
        (["train", "train_64x64"], 32, "train"),
        (["train_64x64", "train"], None, "train"),
    ],
)
def test_the_size_decides_between_names(names, size, chosen):
    assert choose_splits(names, size, "here") == {"train": chosen}


@pytest.mark.parametrize("names", [["val", "valid"], ["train", "Train"], ["test_64x64", "test_128x128"]])
def test_several_names_of_one_split(names):
    received = ", ".join(sorted(names))
    with pytest.raises(ValueError, match=rf"^here: expected one name for the split '\w+'. Received: {received}$"):
        choose_splits(names, 32, "here")


@pytest.mark.parametrize(
    "taken",
    [
        {"train": "Training/cat/1 Training/dog/1", "test": "TEST/2", "validation": "val/3", "": "stray other/4"},
        {"train": "top/train/1", "test": "top/test/2"},
        {"train": "train_32x32/1", "": "train_64x64/2"},
        {"train": "train/cat/1 train/dog/1"},
        {"train": "a/b/train/1 a/b/train/c/1", "test": "a/b/HoldOut/1"},
        # A single name of a split beside others is that of a class.
        {"all": "airplane/1 car/1 train/1"},
        {"all": "bus/2 test/1"},
        {"all": "a/train/1 b/2"},
        {"all": "1 a/train/2"},
        {"train": "train/2", "": "1"},
        {"all": "1"},
        # Several count, whatever lies beside them, which is printed as left out.
        {"train": "train/1", "test": "test/1", "": "bus/1 car/1"},
        # Each class is divided, or one folder is and the others belong to nothing.
        {"train": "bottle/train/1 nut/train/1", "test": "bottle/test/1 nut/test/1", "": "nut/scratched/1"},
        {"train": "faces/train/1", "test": "faces/test/2", "": "previews/1"},
        {"train": "train/train/1", "validation": "train/val/2"},
        # Annotations are no images.
        {"train": "images/train/1", "validation": "images/val/2", "": "labels/train/1 labels/val/2"},
        {"train": "train/images/1", "test": "test/images/2", "": "test/masks/2 train/masks/1"},
        {"all": "JPEGImages/1", "": "SegmentationClass/1"},
        {"train": "train/1", "": "ground_truth/1"},
        {"train": "train_images/1", "": "train_masks/1"},
        {"all": "dog/1 mask/1 train/1"},
        {"all": "/".join("a" * 3000) + "/1"},
    ],
    ids=lambda taken: taken.get("all", taken.get("train"))[:40].replace("/", "_"),
)
def test_splits_by_folder(taken):
    taken = {split: [f"{name}.png" for name in names.split()] for split, names in taken.items()}
    names = sorted(name for part in taken.values() for name in part)
    taken.pop("", None)
    assert splits_by_folder(names, 32, "here") == taken


def test_what_is_taken_and_left_is_named_and_counted():
    splits = {"train": ["images/train/a/1.png", "images/train/b/1.png"], "test": ["images/val/2.png"]}
    left = ["labels/train/1.png", "labels/val/1.png", "images/3.png", "x\ud800\n/4.png"]
    others = ["images/1.TIF", *(f"{number}.gif" for number in range(5)), "README", "a/.git/", "test/", "Thumbs.db"]
    images = sorted([name for part in splits.values() for name in part] + left)
    assert describe("here", splits, images, others) == (
        "images taken from here: images/train/ (2), images/val/ (1)\n"
        "left out: labels/ (2), x\\ud800\\n/ (1), .gif (5: 0.gif, 1.gif, 2.gif and 2 more), .png (1: images/3.png), "
        ".tif (1: images/1.TIF), empty folders (1: test/), hidden (2: a/.git, Thumbs.db), "
        "without a suffix (1: README)"
    )
    assert describe("here", {"all": ["1.png"]}, ["1.png"], []) == "images taken from here: ./ (1)\nleft out: nothing"
