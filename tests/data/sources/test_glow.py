"""Glow's TFRecords, written by TensorFlow: splits, resolutions, missing and damaged shards."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.glow import find_glow

SIZE = 8
INFO = dataset_info("folder").with_size(SIZE, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), np.uint8)


def example(shape, data, **more):
    features = {
        "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=shape)),
        "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[3])),
        **more,
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write(path, images):
    write_records(path, [example(image.shape, image.tobytes()) for image in images])


def write_shards(folder, stem, count, images=IMAGES, suffix=".tfrecords", digits=4):
    for number, part in enumerate(np.array_split(images, count)):
        write(folder / f"{stem}-{number:0{digits}}-of-{count:0{digits}}{suffix}", part)


def read_all(store):
    return np.stack([store.read(index) for index in range(len(store))])


@pytest.mark.parametrize("suffix, digits", [(".tfrecords", 4), (".tfrecord", 5), ("", 5)])
def test_shards_are_read_in_order(tmp_path, suffix, digits):
    write_shards(tmp_path, "images", 3, suffix=suffix, digits=digits)
    splits = find_glow(tmp_path, INFO)
    assert list(splits) == ["all"]
    store = splits["all"]()
    np.testing.assert_array_equal(read_all(store), IMAGES)
    assert store.name(3) == f"{tmp_path}/images-{1:0{digits}}-of-{3:0{digits}}{suffix}, record 0"
    assert str(tmp_path) in store.source


def test_one_file_without_a_number(tmp_path):
    write(tmp_path / "mine.tfrecords", IMAGES)
    np.testing.assert_array_equal(read_all(find_glow(tmp_path, INFO)["all"]()), IMAGES)


@pytest.mark.parametrize("place", ["", "celeba-tfr"])
@pytest.mark.parametrize("validation", ["validation", "valid", "val"])
def test_splits_by_folder(tmp_path, place, validation):
    write_shards(tmp_path / place / "train", "x", 2)
    write_shards(tmp_path / place / validation, "x", 2, IMAGES[:3])
    write_shards(tmp_path / place / "test", "x", 1, IMAGES[:2])
    splits = find_glow(tmp_path, INFO)
    assert {split: len(make()) for split, make in splits.items()} == {"train": 7, "validation": 3, "test": 2}


def test_splits_by_name(tmp_path):
    for stem, count in (("train-r03-s", 5), ("validation-r03-s", 3), ("test-r03-s", 2)):
        write_shards(tmp_path, stem, 2, IMAGES[:count])
    splits = find_glow(tmp_path, INFO)
    assert {split: len(make()) for split, make in splits.items()} == {"train": 5, "validation": 3, "test": 2}


def test_a_name_that_only_begins_like_a_split(tmp_path):
    write_shards(tmp_path, "trains", 1)
    assert list(find_glow(tmp_path, INFO)) == ["all"]


def test_the_resolution_of_the_data_set_is_taken(tmp_path):
    for power in (2, 3, 4):
        images = np.full((power, 2**power, 2**power, 3), power, np.uint8)
        write_shards(tmp_path / "train", f"train-r{power:02}-s", 1, images)
        write_shards(tmp_path / "validation", f"validation-r{power:02}-s", 1, images)
    splits = find_glow(tmp_path, INFO)
    assert read_all(splits["train"]()).shape == read_all(splits["validation"]()).shape == (3, 8, 8, 3)
    with pytest.raises(ValueError, match=rf"^{tmp_path}: expected TFRecords of images of 32 pixels a side. "):
        find_glow(tmp_path, dataset_info("folder").with_size(32, 3))


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, "train-r03-s", 4)
    (tmp_path / "train-r03-s-0002-of-0004.tfrecords").unlink()
    with pytest.raises(ValueError, match=r"expected 4 files train-r03-s-\*-of-4. Received: none with number 2"):
        find_glow(tmp_path, INFO)


def test_a_name_that_claims_many_shards(tmp_path):
    write(tmp_path / "a-000000000-of-999999999.tfrecords", IMAGES)
    with pytest.raises(ValueError, match="Received: none with number 1$"):
        find_glow(tmp_path, INFO)


def test_two_sets_in_one_folder(tmp_path):
    write_shards(tmp_path, "cats", 2)
    write_shards(tmp_path, "dogs", 3)
    with pytest.raises(ValueError, match=r"expected one set of TFRecords for all. Received: cats \(of 2\), dogs"):
        find_glow(tmp_path, INFO)


def test_other_files_and_other_records_are_not_glow(tmp_path):
    (tmp_path / "a.png").touch()
    assert find_glow(tmp_path, INFO) is None
    features = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"png"]))}
    other = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    write_records(tmp_path / "celeb_a-train.tfrecord-00000-of-00001", [other])
    assert find_glow(tmp_path, INFO) is None


def test_grey_images_for_colour_and_the_reverse(tmp_path):
    write_shards(tmp_path / "grey", "a", 1, IMAGES[..., :1])
    store = find_glow(tmp_path / "grey", INFO)["all"]()
    np.testing.assert_array_equal(store.read(2), np.repeat(IMAGES[2, :, :, :1], 3, axis=-1))
    write_shards(tmp_path / "colour", "a", 1)
    store = find_glow(tmp_path / "colour", dataset_info("folder").with_size(8, 1))["all"]()
    luma = IMAGES[2].astype(float) @ [0.299, 0.587, 0.114]
    assert store.read(2).shape == (8, 8, 1) and np.abs(store.read(2)[..., 0] - luma).max() < 1.0


@pytest.mark.parametrize(
    "record",
    [
        example([8, 8, 3], bytes(191)),
        example([8, 8], bytes(64)),
        example([-8, -8, 3], bytes(192)),
        example([0, 8, 3], b""),
        example([2**40, 2**40, 3], bytes(192)),
        example([8] * 100_000, bytes(192)),
        example([8, 8, 2], bytes(128)),
        example([], b""),
        b"no example",
        b"",
    ],
    # Not the bytes: features have no order of their own, and every process must see the same names.
    ids=range(10),
)
def test_a_damaged_image_is_named_and_the_others_are_read(tmp_path, record):
    records = [example(image.shape, image.tobytes()) for image in IMAGES]
    write_records(tmp_path / "a-0-of-1.tfrecords", [*records[:2], record, *records[2:]])
    store = find_glow(tmp_path, INFO)["all"]()
    with pytest.raises(DamagedImageError, match=rf"^{tmp_path}/a-0-of-1.tfrecords, record 2: expected") as caught:
        store.read(2)
    assert len(str(caught.value)) < 500
    np.testing.assert_array_equal(store.read(3), IMAGES[2])


def test_changed_bytes_are_found_even_in_the_first_record(tmp_path):
    write(tmp_path / "a.tfrecords", IMAGES)
    data = bytearray((tmp_path / "a.tfrecords").read_bytes())
    data[60] ^= 1
    (tmp_path / "a.tfrecords").write_bytes(data)
    store = find_glow(tmp_path, INFO)["all"]()
    with pytest.raises(DamagedImageError, match=r"a.tfrecords, record 0: expected data with their checksum"):
        store.read(0)
    np.testing.assert_array_equal(store.read(1), IMAGES[1])


def test_a_shard_that_is_cut_short(tmp_path):
    write_shards(tmp_path, "a", 2)
    path = tmp_path / "a-0001-of-0002.tfrecords"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"^{path}: record 2, byte \d+: expected a whole record"):
        find_glow(tmp_path, INFO)["all"]()
