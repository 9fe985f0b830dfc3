"""Images of a split in memory, with damaged ones left out."""

import logging

import numpy as np
import pytest

from nvae_tf.data import image_set
from nvae_tf.data.image_set import in_memory


def numbered(count):
    """Images in which every value is the number of the image."""
    return np.broadcast_to((np.arange(count) % 256).astype(np.uint8)[:, None, None, None], (count, 2, 3, 1)).copy()


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def test_a_subset_with_padding(split_images):
    images = in_memory(split_images(numbered(9)).subset([1, 4, 8]), padding=2)
    assert len(images) == 3 and images.image_shape == images.array.shape[1:] == (6, 7, 1)
    assert numbers(images.array[:, 2:-2, 2:-2]) == [1, 4, 8] and images.array.sum() == 6 * 13


@pytest.mark.parametrize("damaged", [(1,), (3, 4), (0,), (0, 3, 4)])
def test_the_next_image_takes_the_place_of_a_damaged_one(split_images, damaged):
    expected = []
    for index in range(5):
        while index % 5 in damaged:
            index += 1
        expected.append(index % 5)
    images = in_memory(split_images(numbered(5), damaged), max_damaged=3)
    assert numbers(images.array) == expected
    assert images.good.tolist() == [index for index in range(5) if index not in damaged]


def test_damaged_images_are_named_and_one_too_many_is_an_error(split_images, caplog):
    images = split_images(numbered(5), (2, 3))
    with caplog.at_level(logging.WARNING):
        in_memory(images, max_damaged=2)
    assert [record.getMessage() for record in caplog.records] == [
        f"damaged image, left out ({count}, at most 2): number {index} is damaged" for count, index in ((1, 2), (2, 3))
    ]
    message = "data.max_damaged: expected at most 1 damaged images. Received: 2, the last: number 3 is damaged"
    with pytest.raises(ValueError, match=message):
        in_memory(images, max_damaged=1)


def test_only_damaged_images(split_images):
    with pytest.raises(ValueError, match="numbers: expected images. Received: 3 damaged ones"):
        in_memory(split_images(numbered(3), (0, 1, 2)), max_damaged=9)


def test_many_images_are_read_in_other_processes(split_images, monkeypatch):
    monkeypatch.setattr(image_set, "_MIN_PARALLEL", 1)
    monkeypatch.setattr(image_set, "num_cores", lambda: 2)
    progress = []
    images = in_memory(split_images(numbered(600), (5, 599)), max_damaged=2, progress=progress.append)
    expected = [6 if index == 5 else 0 if index == 599 else index % 256 for index in range(600)]
    assert numbers(images.array) == expected and progress == [*range(38, 600, 38), 600]
