"""Prepared records: the manifest, the folder as a source, and damage."""

import json
import pickle

import numpy as np
import pytest

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError, decode
from nvae_tf.data.prepare import Preparation
from nvae_tf.data.records import find_prepared, read_manifest
from nvae_tf.data.splits import open_images

INFO = dataset_info("folder").with_size(8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Prepared set of 80 training images in two shards, and one test image."""
    (tmp_path / "source").mkdir()
    np.save(tmp_path / "source" / "train.npy", IMAGES)
    np.save(tmp_path / "source" / "test.npy", IMAGES[:1])
    Preparation(INFO, tmp_path / "source", log=str).run(tmp_path / "out")
    return tmp_path / "out"


def change(folder, function):
    """Applies a function to the values of manifest.json."""
    values = json.loads((folder / "manifest.json").read_text())
    function(values)
    (folder / "manifest.json").write_text(json.dumps(values))


def test_records_are_read_in_any_order_and_in_other_processes(folder):
    records = pickle.loads(pickle.dumps(open_images(INFO, folder, "train").split.open_records))()
    order = np.array([79, 3, 64, 63, 0])
    for number, file in zip(order, records.read(order), strict=True):
        np.testing.assert_array_equal(decode(file, 3, ""), IMAGES[number])
    assert records.name(64) == f"{folder}/train-00001-of-00002.array_record, record 0"
    [(name, image)] = pickle.loads(pickle.dumps(open_images(INFO, folder, "train"))).read([70])
    assert name == records.name(70)
    np.testing.assert_array_equal(image, IMAGES[70])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "webpack"}', "\x00\xff"])
def test_the_manifest_of_another_program(tmp_path, text):
    assert find_prepared(tmp_path, INFO) is None
    (tmp_path / "manifest.json").write_text(text)
    assert find_prepared(tmp_path, INFO) is None


def test_a_damaged_manifest(folder):
    path = folder / "manifest.json"
    whole = path.read_text()
    path.write_text(whole[:-20])
    with pytest.raises(ValueError, match=rf"^{path}: expected a manifest of prepared images. Received: Unterm"):
        read_manifest(folder)
    path.write_text(whole)
    change(folder, lambda values: values.pop("channels"))
    with pytest.raises(ValueError, match=rf"^{path}: expected a manifest of prepared images. Received: .*'channels'"):
        read_manifest(folder)


def test_a_set_of_an_earlier_version_says_how_to_make_it_again(folder):
    change(folder, lambda values: values.update(version=1, images_per_shard=64))
    message = rf"^{folder}/manifest.json: version: expected 3. Received: 1; remove the folder and prepare .* again"
    with pytest.raises(ValueError, match=message):
        open_images(INFO, folder, "train")


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "a/b"])
def test_files_outside_the_folder(folder, file):
    change(folder, lambda values: values["splits"]["train"][0].update(file=file))
    with pytest.raises(ValueError, match="Received: a shard outside of the folder"):
        read_manifest(folder)


def test_another_data_set_or_size(folder):
    change(folder, lambda values: values.update(dataset="cifar10", image_size=32))
    with pytest.raises(ValueError, match="manifest.json: dataset: expected imagenet32. Received: cifar10"):
        find_prepared(folder, dataset_info("imagenet32"))
    assert set(find_prepared(folder, dataset_info("folder").with_size(32, 3))) == {"train", "test"}
    with pytest.raises(ValueError, match="expected images of size 64 with 3 channels. Received: 32 with 3"):
        find_prepared(folder, dataset_info("folder").with_size(64, 3))


@pytest.mark.parametrize("missing, received", [(True, "no such file"), (False, r"\d+")])
def test_a_shard_that_is_missing_or_truncated(folder, missing, received):
    path = folder / "train-00001-of-00002.array_record"
    data = path.read_bytes()
    path.unlink() if missing else path.write_bytes(data[:-10])
    message = rf"^{path}: expected {len(data)} bytes. Received: {received}; tools/prepare_data.py writes it again"
    with pytest.raises(ValueError, match=message):
        open_images(INFO, folder, "train")


def test_a_damaged_record_is_named_and_the_others_are_read(folder):
    path = folder / "train-00000-of-00002.array_record"
    images = open_images(INFO, folder, "train")
    records = images.split.open_records()
    data = bytearray(path.read_bytes())
    data[data.index(records.read(np.array([5]))[0]) + 40] ^= 1
    path.write_bytes(data)
    error, good = images.split.open_records().read(np.array([5, 4]))
    assert isinstance(error, DamagedImageError) and good == records.read(np.array([4]))[0]
    assert str(error).startswith(f"{path}, record 5: expected an undamaged record. Received: Corr")
    found = [image for _, image in images.read()]
    assert isinstance(found.pop(5), DamagedImageError)
    np.testing.assert_array_equal(found, np.delete(IMAGES, 5, axis=0))
    path.write_bytes(bytes(len(data)))
    with pytest.raises(ValueError, match=f"^{path}: expected 64 records. Received: 0; tools/prepare_data.py writes"):
        images.split.open_records().read(np.array([5]))
