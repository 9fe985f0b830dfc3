"""Preparing a data set: what is written."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.prepare import Options, Preparation
from nvae_tf.data.shard_writer import default_images_per_shard
from nvae_tf.data.splits import open_images

INFO = dataset_info("folder").with_size(8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
SMALL = Options(images_per_shard=7)


@pytest.fixture
def source(tmp_path):
    """Folder with 60 images: 40 to train on, 20 held out."""
    for index, image in enumerate(IMAGES):
        path = tmp_path / "source" / ("train" if index < 40 else "test") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "source"


def prepare(source, folder, options=SMALL, info=INFO, log=None):
    lines = [] if log is None else log
    return Preparation(info, source, folder, options, lines.append).run()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shard(split, number, count):
    return f"{split}-{number:05}-of-{count:05}.tfrecord"


def test_tensorflow_reads_what_is_written(source, tmp_path):
    prepare(source, tmp_path / "out")
    names = [shard("test", i, 3) for i in range(3)] + [shard("train", i, 6) for i in range(6)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", *names]
    paths = [str(tmp_path / "out" / name) for name in names[3:]]
    records = [tf.train.Example.FromString(data) for data in tf.data.TFRecordDataset(paths).as_numpy_iterator()]
    assert len(records) == 40
    for index, record in enumerate(records):
        features = record.features.feature
        with Image.open(io.BytesIO(features["image/encoded"].bytes_list.value[0])) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), IMAGES[index])
        assert features["image/filename"].bytes_list.value[0] == f"train/{index:02}.png".encode()
        assert features["image/format"].bytes_list.value[0] == b"png"
        sizes = [features[f"image/{name}"].int64_list.value[0] for name in ("height", "width", "channels")]
        assert sizes == [8, 8, 3]


def test_the_manifest_says_what_is_there(source, tmp_path):
    manifest = prepare(source, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "manifest.json").read_text())
    fields = {name: value for name, value in stored.items() if name != "splits"}
    assert fields == {
        "format": "nvae_tf prepared images",
        "version": 1,
        "dataset": "folder",
        "source": "image_folder",
        "image_height": 8,
        "image_width": 8,
        "channels": 3,
        "resize": False,
        "split_seed": 0,
        "test_fraction": 0.1,
        "images_per_shard": 7,
    }
    assert list(stored["splits"]) == list(manifest.splits) == ["train", "test"]
    for split, images in (("train", IMAGES[:40]), ("test", IMAGES[40:])):
        assert stored["splits"][split]["num_images"] == len(images) and stored["splits"][split]["damaged"] == []
        np.testing.assert_allclose(stored["splits"][split]["mean"], images.mean((0, 1, 2)), rtol=1e-12)
        for entry in stored["splits"][split]["shards"]:
            data = (tmp_path / "out" / entry["file"]).read_bytes()
            assert entry["bytes"] == len(data) and entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert str(tmp_path) not in json.dumps(stored)


def test_it_is_opened_like_any_other_data_set(source, tmp_path):
    prepare(source, tmp_path / "out")
    shutil.rmtree(source)
    for split, images in (("train", IMAGES[:40]), ("test", IMAGES[40:])):
        store = open_images(INFO, tmp_path / "out", split)
        np.testing.assert_array_equal(np.stack([store.read(index) for index in range(len(store))]), images)


def test_the_place_of_the_images_does_not_matter(source, tmp_path, monkeypatch):
    prepare(source, tmp_path / "a")
    source.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    prepare("moved", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_number_of_processes_does_not_matter(source, tmp_path):
    (source / "train" / "11.png").write_bytes(b"damaged")
    for number in (1, 2, 3):
        prepare(source, tmp_path / str(number), Options(images_per_shard=7, num_processes=number))
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def test_the_split_of_a_data_set_without_one_follows_the_seed(source, tmp_path):
    for path in source.glob("*/*.png"):
        path.rename(source / path.name)
    for folder in ("train", "test"):
        (source / folder).rmdir()
    kept = {}
    for seed in (0, 1):
        options = Options(images_per_shard=7, split_seed=seed, test_fraction=0.25)
        manifest = prepare(source, tmp_path / str(seed), options)
        assert {name: split.num_images for name, split in manifest.splits.items()} == {"train": 45, "test": 15}
        stores = [open_images(INFO, tmp_path / str(seed), split) for split in ("train", "test")]
        images = [store.read(index).tobytes() for store in stores for index in range(len(store))]
        assert sorted(images) == sorted(image.tobytes() for image in IMAGES)
        kept[seed] = images
    assert kept[0] != kept[1]


def test_images_of_another_size(source, tmp_path):
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(source / "train" / "05.png")
    message = rf"^{source}/train/05.png: expected an image of 8x8 \(height x width\), or data.resize=True. "
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "resized", Options(resize=True))
    assert (open_images(INFO, tmp_path / "resized", "train").read(5) == 77).all()


def test_damaged_images_are_named_and_left_out(source, tmp_path):
    for name in ("train/03.png", "train/20.png", "test/41.png"):
        (source / name).write_bytes(b"damaged")
    log = []
    manifest = prepare(source, tmp_path / "out", log=log)
    assert manifest.splits["train"].damaged == ["train/03.png", "train/20.png"]
    assert manifest.splits["test"].damaged == ["test/41.png"]
    assert [split.num_images for split in manifest.splits.values()] == [38, 19]
    assert [entry.num_images for entry in manifest.splits["train"].shards] == [6, 7, 6, 7, 7, 5]
    assert log[1].startswith(f"damaged image, left out (2 in train): {source}/train/20.png: expected a PNG")
    store = open_images(INFO, tmp_path / "out", "train")
    np.testing.assert_array_equal(store.read(3), IMAGES[4])


@pytest.mark.parametrize("names", [(3, 20, 30), (1, 2, 3)])  # over several shards, and in one
def test_too_many_damaged_images_and_on_with_a_larger_limit(source, tmp_path, names):
    for name in names:
        (source / "train" / f"{name:02}.png").write_bytes(b"damaged")
    message = r"^max_damaged: expected at most 2 damaged images in train. Received: 3, the last: .*/train/\d\d.png: "
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out", Options(images_per_shard=7, max_damaged=2))
    written = len(list((tmp_path / "out").glob("*.tfrecord")))
    log = []
    prepare(source, tmp_path / "out", Options(images_per_shard=7, max_damaged=3), log=log)
    assert not written or f"{written} of 9 shards are there already, verified" in log
    prepare(source, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_progress_counts_images(source, tmp_path):
    counts = []

    def make(total):
        assert total == 60
        return counts.append

    Preparation(INFO, source, tmp_path / "out", SMALL, print, make).run()
    assert counts == [7, 14, 21, 28, 35, 40, 47, 54, 60]


@pytest.mark.parametrize(
    "num_images, image_bytes, expected",
    [
        (12_000, 32 * 32 * 3, 375),  # 32 files
        (1_000, 32 * 32 * 3, 256),
        (1_281_149, 64 * 64 * 3, 21_845),  # 256 MiB
        (27_000, 256 * 256 * 3, 844),
        (3_000_000, 256 * 256 * 3, 1365),
        (10, 2**30, 1),
    ],
)
def test_images_of_a_shard(num_images, image_bytes, expected):
    assert default_images_per_shard(num_images, image_bytes) == expected
