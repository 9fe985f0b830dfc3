"""Names of splits."""

import pytest

from nvae_tf.data.sources.split_names import choose_splits, is_hidden


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
        ("train_32x32", "train"),
        ("valid_64x64", "validation"),
        ("x_train", "train"),
        ("test_x", "test"),
        ("val_images", "validation"),
    ],
)
def test_names_of_splits(name, split):
    assert choose_splits([name], 32, "here") == {split: name}


@pytest.mark.parametrize("name", ["trains", "retrain", "y_train", "train_data_batch_1", "val_data", "train_32", ""])
def test_other_names(name):
    assert choose_splits([name], 32, "here") == {}


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


def test_part_of_a_name_and_condition():
    names = {"train.zip": 0, "test.zip": 3}
    assert choose_splits(names, 32, "here", lambda name: name[:-4], lambda name: names[name]) == {"test": "test.zip"}


def test_hidden_names():
    assert all(map(is_hidden, (".git", "._x.png", "__MACOSX"))) and not is_hidden("x.png")
