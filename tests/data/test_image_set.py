"""Images of a split in memory, damaged ones left out."""

import logging

import numpy as np
import pytest

from nvae_tf.data import image_set
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.image_set import ImageSet, TooManyDamagedError
from nvae_tf.data.stores import ArrayStore, SubsetStore


class NumberedStore:
    """Images whose values are their index; those in `damaged` cannot be read."""

    source = "numbers"

    def __init__(self, num_images, damaged=()):
        self.num_images, self.damaged = num_images, damaged

    def __len__(self):
        return self.num_images

    def name(self, index):
        return f"number {index}"

    def read(self, index):
        if index in self.damaged:
            raise DamagedImageError(f"{self.name(index)} is damaged")
        return np.full((2, 3, 1), index % 256, np.uint8)


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def test_in_memory_images_are_taken_as_they_are():
    array = np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1)
    images = ImageSet(SubsetStore(ArrayStore(array, 1, "array"), [3, 1])).load()
    np.testing.assert_array_equal(images.array, array[[3, 1]])
    assert images.image_shape == (2, 3, 1) and images.num_bytes == 12


def test_padding():
    images = ImageSet(NumberedStore(3), padding=2).load()
    assert images.image_shape == images.array.shape[1:] == (6, 7, 1)
    assert numbers(images.array[:, 2:-2, 2:-2]) == [0, 1, 2] and images.array.sum() == 6 * 3


@pytest.mark.parametrize("damaged", [(1,), (3, 4), (0,), (0, 3, 4)])
def test_the_next_image_takes_the_place_of_a_damaged_one(damaged):
    expected = []
    for index in range(5):
        while index % 5 in damaged:
            index += 1
        expected.append(index % 5)
    images = ImageSet(NumberedStore(5, damaged), max_damaged=3)
    batch, indices = images.read_batch(np.arange(5))
    assert numbers(batch) == numbers(images.load().array) == expected
    assert indices.tolist() == list(range(5)) and images.num_good == 5 - len(damaged)
    batch, indices = images.read_batch(np.arange(5), replace=False)
    assert numbers(batch) == indices.tolist() == [index for index in range(5) if index not in damaged]


def test_each_damaged_image_is_named_once(caplog):
    images = ImageSet(NumberedStore(5, (2, 3)), max_damaged=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            images.read_batch(np.arange(5))
    assert [record.getMessage() for record in caplog.records] == [
        f"damaged image, left out ({count}, at most 2): number {index} is damaged" for count, index in ((1, 2), (2, 3))
    ]


def test_one_damaged_image_too_many():
    message = "data.max_damaged: expected at most 1 damaged images. Received: 2, the last: number 3 is damaged"
    with pytest.raises(TooManyDamagedError, match=message):
        ImageSet(NumberedStore(5, (2, 3)), max_damaged=1).load()
    with pytest.raises(TooManyDamagedError, match=message):
        ImageSet(NumberedStore(5, (2, 3)), max_damaged=1).read_batch(np.arange(5))


def test_nothing_but_damaged_images():
    with pytest.raises(TooManyDamagedError, match="numbers: expected images. Received: 3 damaged ones"):
        ImageSet(NumberedStore(3, (0, 1, 2)), max_damaged=9)


def test_nothing_but_damaged_images_whose_shape_is_known_without_them():
    store = NumberedStore(3, (0, 1, 2))
    store.is_encoded, store.image_shape = True, (2, 3, 1)
    with pytest.raises(TooManyDamagedError, match="numbers: expected images. Received: 3 damaged ones"):
        ImageSet(store, max_damaged=9).load()


def test_many_images_are_read_in_other_processes(monkeypatch):
    monkeypatch.setattr(image_set, "_MIN_PARALLEL", 1)
    progress = []
    images = ImageSet(NumberedStore(600, (5, 599)), max_damaged=2).load(progress.append)
    expected = [6 if index == 5 else 0 if index == 599 else index % 256 for index in range(600)]
    assert numbers(images.array) == expected and progress == [256, 512, 600]
