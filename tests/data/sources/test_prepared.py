"""Prepared data sets as files written by hand: PNG by Pillow, records by TensorFlow, the manifest as JSON."""

import io
import json
import pickle
import re
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.sources.prepared import find_prepared

CIFAR = dataset_info("cifar10")
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def example(data, name="image/encoded"):
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_shard(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return {"file": path.name, "num_images": len(records), "bytes": path.stat().st_size, "sha256": "0" * 64}


def write(folder, records, **changes):
    """A prepared folder whose split `train` holds the records, in two shards, and `test` the first."""
    splits = {}
    for split, parts in (("train", [records[:4], records[4:]]), ("test", [records[:1]])):
        shards = [
            write_shard(folder / f"{split}-{number:05}-of-{len(parts):05}.tfrecord", part)
            for number, part in enumerate(parts)
        ]
        count = sum(map(len, parts))
        splits[split] = {"num_images": count, "damaged": [], "mean": [1.0, 2.0, 3.0], "shards": shards}
    manifest = {"format": "nvae_tf prepared images", "version": 1, "dataset": "cifar10", "source": "cifar"}
    manifest |= {"image_height": 32, "image_width": 32, "channels": 3, "resize": False, "split_seed": 0}
    manifest |= {"test_fraction": 0.1, "images_per_shard": 4, "splits": splits, **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_images(folder, **changes):
    write(folder, [example(png(image)) for image in IMAGES], **changes)


def test_reads_images_and_their_files(tmp_path):
    write_images(tmp_path)
    splits = find_prepared(tmp_path, CIFAR)
    assert list(splits) == ["train", "test"]
    store = splits["train"]()
    assert len(store) == 7 and len(splits["test"]()) == 1
    np.testing.assert_array_equal(np.stack([store.read(index) for index in range(7)]), IMAGES)
    assert [store.read_encoded(index) for index in range(7)] == [png(image) for image in IMAGES]
    assert store.image_shape == (32, 32, 3) and store.is_encoded
    assert store.name(5) == f"{tmp_path}/train-00001-of-00002.tfrecord, record 1"
    assert store.source == f"{tmp_path}/manifest.json"
    copy = pickle.loads(pickle.dumps(splits["train"]))()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(copy)).read(6), IMAGES[6])


def test_grey_images(tmp_path):
    write(tmp_path, [example(png(image[..., 0])) for image in IMAGES], dataset="folder", channels=1)
    store = find_prepared(tmp_path, dataset_info("folder").with_size(32, 1))["train"]()
    np.testing.assert_array_equal(store.read(2), IMAGES[2, :, :, :1])


def test_nothing_there(tmp_path):
    assert find_prepared(tmp_path, CIFAR) is None
    (tmp_path / "manifest.json").write_text('{"name": "web app", "icons": []}')
    assert find_prepared(tmp_path, CIFAR) is None


def test_another_data_set(tmp_path):
    write_images(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/manifest.json: dataset: expected imagenet32. "):
        find_prepared(tmp_path, dataset_info("imagenet32"))


def test_a_folder_takes_any_data_set_of_its_size(tmp_path):
    write_images(tmp_path)
    folder = dataset_info("folder")
    assert list(find_prepared(tmp_path, folder.with_size(32, 3))) == ["train", "test"]
    for size, channels in ((64, 3), (32, 1)):
        message = f"expected images of {size}x{size}x{channels} (height x width x channels). Received: 32x32x3"
        with pytest.raises(ValueError, match=re.escape(message)):
            find_prepared(tmp_path, folder.with_size(size, channels))


def test_padding_is_not_stored(tmp_path):
    write(tmp_path, [example(png(IMAGES[0, :28, :28, 0]))] * 5, dataset="mnist", channels=1, image_height=28)
    with pytest.raises(ValueError, match="expected images of 28x28x1 .* Received: 28x32x1"):
        find_prepared(tmp_path, dataset_info("mnist"))


@pytest.mark.parametrize("missing, received", [(True, "no such file"), (False, r"\d+")])
def test_a_shard_that_is_missing_or_cut_short(tmp_path, missing, received):
    write_images(tmp_path)
    path = tmp_path / "train-00001-of-00002.tfrecord"
    data = path.read_bytes()
    path.unlink() if missing else path.write_bytes(data[:-10])
    message = rf"^{path}: expected {len(data)} bytes. Received: {received}; tools/prepare_data.py writes it again$"
    with pytest.raises(ValueError, match=message):
        find_prepared(tmp_path, CIFAR)


def test_a_damaged_manifest(tmp_path):
    write_images(tmp_path, channels="3")
    with pytest.raises(ValueError, match="manifest.json: channels: expected int, not negative. Received: '3'"):
        find_prepared(tmp_path, CIFAR)


@pytest.mark.parametrize(
    "record, message",
    [
        (b"no example", "expected a tf.train.Example"),
        (example(png(IMAGES[0]), "image"), "expected image/encoded. Received: no such feature"),
        (example(png(IMAGES[0])[:300]), "expected a PNG, JPEG, WebP or BMP image"),
        (example(png(IMAGES[0, :16])), r"expected an image of \[32, 32, 3\]. Received: \[16, 32, 3\]"),
    ],
)
def test_a_damaged_image_is_named_and_the_others_are_read(tmp_path, record, message):
    records = [example(png(image)) for image in IMAGES]
    records[5] = record
    write(tmp_path, records)
    store = find_prepared(tmp_path, CIFAR)["train"]()
    with pytest.raises(DamagedImageError, match=f"^{tmp_path}/train-00001-of-00002.tfrecord, record 1: {message}"):
        store.read(5)
    np.testing.assert_array_equal(store.read(6), IMAGES[6])


def test_changed_bytes_are_found_without_decoding(tmp_path):
    write_images(tmp_path)
    path = tmp_path / "train-00000-of-00002.tfrecord"
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    store = find_prepared(tmp_path, CIFAR)["train"]()
    with pytest.raises(DamagedImageError, match=f"^{path}, record 0: expected data with their checksum"):
        store.read_encoded(0)
    assert store.read_encoded(1) == png(IMAGES[1])


def test_finding_a_file_costs_microseconds(tmp_path):
    write_images(tmp_path)
    store = find_prepared(tmp_path, CIFAR)["train"]()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for index in range(1000):
            store.read_encoded(index % 7)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # 50 microseconds each; it takes 5 to 10
