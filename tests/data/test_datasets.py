"""The table of data sets."""

import pytest

from nvae_tf.data.datasets import DATASETS, dataset_info
from nvae_tf.data.sources import SOURCES


def test_rows_name_what_exists():
    for name, info in DATASETS.items():
        assert info.name == name
        assert set(info.sources) <= set(SOURCES) and len(set(info.sources)) == len(info.sources)
        assert ("tfds" in info.sources) == (info.tfds_name is not None or name == "folder")


@pytest.mark.parametrize("size", [32, 64])
def test_the_notes_of_both_imagenets_say_that_they_are_not_comparable(size):
    old, new = (DATASETS[f"imagenet{size}{year}"] for year in ("", "_2021"))
    assert f"than imagenet{size}_2021, and results are not comparable" in old.note
    assert f"than imagenet{size}, and results are not comparable" in new.note
    assert old.num_images != new.num_images


def test_sizes_left_open_come_from_the_model():
    info = dataset_info("folder").with_size(48, 3)
    assert (info.image_size, info.channels) == (48, 3)
    assert dataset_info("mnist").with_size(48, 3).image_size == 32


def test_any_set_of_tensorflow_datasets():
    info = dataset_info("tfds:oxford_flowers102")
    assert (info.name, info.tfds_name, info.sources) == ("tfds:oxford_flowers102", "oxford_flowers102", ("tfds",))


@pytest.mark.parametrize("name", ["mnst", "tfds:", ""])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=f"data.dataset: expected one of .*'mnist'.* or tfds:NAME. Received: '{name}'"):
        dataset_info(name)
