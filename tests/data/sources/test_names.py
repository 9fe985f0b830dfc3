"""Names that stand for splits."""

import pytest

from nvae_tf.data.sources.names import choose_splits, splits_by_folder


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
        *((name, None) for name in ("trains", "retrain", "y_train", "train_data_batch_1", "val_data", "train_32", "")),
    ],
)
def test_names_of_splits(name, split):
    assert choose_splits([name], 32, "here") == ({split: name} if split else {})
    assert choose_splits([f"{name}.zip"], 32, "here", are_files=True) == ({split: f"{name}.zip"} if split else {})


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
    ("names", "splits"),
    [
        (
            ["Training/cat/1.png", "Training/dog/1.png", "TEST/2.png", "val/3.png", "stray.png", "other/4.png"],
            {
                "train": ["Training/cat/1.png", "Training/dog/1.png"],
                "test": ["TEST/2.png"],
                "validation": ["val/3.png"],
            },
        ),
        (["top/train/1.png", "top/test/2.png"], {"train": ["top/train/1.png"], "test": ["top/test/2.png"]}),
        (["train_32x32/1.png", "train_64x64/2.png"], {"train": ["train_32x32/1.png"]}),
        (["test/1.png", "bus/2.png"], {"test": ["test/1.png"]}),
        # If there are several top folders, the names below them are those of classes.
        (["a/train/1.png", "b/2.png"], {"all": ["a/train/1.png", "b/2.png"]}),
        (["1.png", "a/train/2.png"], {"all": ["1.png", "a/train/2.png"]}),
        (["a/b/train/1.png"], {"all": ["a/b/train/1.png"]}),
    ],
)
def test_splits_by_folder(names, splits):
    assert splits_by_folder(names, 32, "here") == splits
