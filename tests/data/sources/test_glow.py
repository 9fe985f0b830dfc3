"""Glow's TFRecords: names of shards, splits and resolutions; missing shards and damaged records."""

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.glow import find_glow
from tests.data.sources.formats import names, read
from tests.data.sources.writers import encoded, glow_record, tf_example, write_records, write_shards

INFO = dataset_info("folder").with_size(8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)


def counts(splits):
    return {split: make().num_images for split, make in splits.items()}


@pytest.mark.parametrize("suffix", [".tfrecords", ".tfrecord", ""])
def test_shards_are_read_in_order(tmp_path, suffix):
    write_shards(tmp_path, "images", IMAGES, 3, suffix)
    [(split, make)] = find_glow(tmp_path, INFO).items()
    assert split == "all"
    np.testing.assert_array_equal(read(make()), IMAGES)
    assert names(make())[2] == f"{tmp_path}/images-0001-of-0003{suffix}, record 0"


@pytest.mark.parametrize("place, validation", [("", "valid"), ("celeba-tfr", "val")])
def test_splits_by_folder(tmp_path, place, validation):
    write_shards(tmp_path / place / "train", "x", IMAGES)
    write_shards(tmp_path / place / validation, "x", IMAGES[:3])
    write_shards(tmp_path / place / "test", "x", IMAGES[:2], 1)
    assert counts(find_glow(tmp_path, INFO)) == {"train": 7, "validation": 3, "test": 2}


def test_splits_by_name(tmp_path):
    for stem, count in (("train-r03-s", 5), ("validation-r03-s", 3), ("test-r03-s", 2)):
        write_shards(tmp_path, stem, IMAGES[:count])
    assert counts(find_glow(tmp_path, INFO)) == {"train": 5, "validation": 3, "test": 2}
    write_shards(tmp_path / "other", "trains", IMAGES)
    assert list(find_glow(tmp_path / "other", INFO)) == ["all"]


def test_the_resolution_of_the_data_set_is_taken(tmp_path):
    for power in (2, 3, 4):
        images = np.full((power, 2**power, 2**power, 3), power, np.uint8)
        write_shards(tmp_path / "train", f"train-r{power:02}-s", images, 1)
    assert read(find_glow(tmp_path, INFO)["train"]()).shape == (3, 8, 8, 3)
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected TFRecords of images of 32 .*Received: \[4, 8, 16\]"):
        find_glow(tmp_path, dataset_info("folder").with_size(32, 3))


def test_missing_shards_and_two_sets(tmp_path):
    write_shards(tmp_path, "cats", IMAGES, 4)
    (tmp_path / "cats-0002-of-0004.tfrecords").unlink()
    with pytest.raises(ValueError, match=r"expected 4 files cats-\*-of-4. Received: none with number 2"):
        find_glow(tmp_path, INFO)
    write_shards(tmp_path, "dogs", IMAGES)
    with pytest.raises(ValueError, match=r"expected one set of TFRecords for all. Received: cats \(of 4\), dogs"):
        find_glow(tmp_path, INFO)


def test_other_records_are_not_glow(tmp_path):
    record = tf_example(image=encoded(IMAGES[0]))
    write_records(tmp_path / "celeb_a-train.tfrecord-00000-of-00001", [record])
    assert find_glow(tmp_path, INFO) is None


@pytest.mark.parametrize("shape, size", [([8, 8, 3], 191), ([8, 8], 64), ([-8, -8, 3], 192), ([8, 8, 2], 128), ([], 0)])
def test_record_of_another_shape(tmp_path, shape, size):
    damaged = tf_example(shape=shape, data=bytes(size))
    write_records(tmp_path / "a.tfrecords", [glow_record(IMAGES[0]), damaged, glow_record(IMAGES[1])])
    (_, first), (name, error), (_, last) = find_glow(tmp_path, INFO)["all"]().read(np.arange(3))
    np.testing.assert_array_equal([first, last], IMAGES[:2])
    assert isinstance(error, DamagedImageError) and str(error).startswith(f"{name}: expected a shape [H, W, 1, 3 or 4]")


def test_changed_bytes_are_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.tfrecords"
    write_records(path, map(glow_record, IMAGES))
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    split = find_glow(tmp_path, INFO)["all"]()
    with pytest.raises(ValueError, match=f"^{path}: expected TFRecords. Received: DataLossError"):
        list(split.read(np.arange(split.num_images)))


@pytest.mark.parametrize("missing, received", [(1, "ValueError: a truncated record"), (-5, "error: unpack")])
def test_file_that_does_not_end_with_a_record(tmp_path, missing, received):
    path = tmp_path / "a.tfrecords"
    write_records(path, map(glow_record, IMAGES))
    data = path.read_bytes()
    path.write_bytes(data[:-missing] if missing > 0 else data + bytes(-missing))
    with pytest.raises(ValueError, match=f"^{path}: expected TFRecords. Received: {received}"):
        find_glow(tmp_path, INFO)["all"]()
