"""The images of a run: in memory, or in records that are prepared automatically."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.config import BIVAConfig, Config, DataConfig, ModelConfig
from nvae_tf.data.batches import eval_batches, train_batches
from nvae_tf.runs.data import check_data, default_cache_dir, load_images

COUNTS = {"train": 90, "test": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of 8 x 8 pixels, of which three training images are damaged."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        (folder / split).mkdir()
        for index in range(count):
            image = Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8))
            image.save(folder / split / f"{index:02}.png")
    for index in (7, 8, 89):
        (folder / "train" / f"{index:02}.png").write_bytes(b"damaged")
    return folder


def config(cache_gib, **data):
    data = DataConfig(dataset="folder", horizontal_flip=True, cache_gib=cache_gib, validation_images=20, **data)
    model = ModelConfig(image_height=8, image_width=8, image_channels=3, likelihood="logistic_mixture")
    return Config(data=data, model=model)


def test_records_give_the_batches_of_images_in_memory(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.processes.num_cores", lambda: 1)
    for split, count in (("train", 70), ("validation", 20), ("test", 10)):
        memory, records = (load_images(config(gib), folder, split, cache_dir=tmp_path / "cache") for gib in (4, 0))
        assert memory.array is not None and records.array is None and len(memory) == len(records) == count
        np.testing.assert_array_equal(memory.damaged, records.damaged)
        for binarize in (True, False):
            data = DataConfig(binarize=binarize, horizontal_flip=True)
            batches = ([b[0] for b in train_batches(i, data, 5, 4, seed=1).take(20)] for i in (memory, records))
            np.testing.assert_array_equal(*batches)
            for num_images in (None, 9):
                whole = (
                    np.concatenate(list(eval_batches(i, data, 8, 4, 0, num_images).as_numpy_iterator()))
                    for i in (memory, records)
                )
                np.testing.assert_array_equal(*whole)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert capsys.readouterr().err.count("folder: prepared once, in ") == 1


def test_what_was_left_out_is_said_after_the_last_split(folder, tmp_path, capsys):
    said = []
    for gib in (4, 0):
        for split in ("train", "test"):
            load_images(config(gib), folder, split, cache_dir=tmp_path, more_splits=split == "train")
        said.append([line.partition(":")[0] for line in capsys.readouterr().out.splitlines()])
    taken = [f"70 train images, {folder}", f"10 test images, {folder}", f"images taken from {folder}", "left out"]
    assert said == [taken, taken]


def test_padding_and_the_first_images(shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.processes.num_cores", lambda: 1)
    model = ModelConfig(image_height=32, image_width=32, image_channels=1, padding=2)
    both = [
        load_images(
            Config(data=DataConfig(dataset="mnist", binarize=True, cache_gib=gib), model=model), path, "test", 50
        )
        for gib, path in ((4, shared_data), (0, _few(shared_data, tmp_path)))
    ]
    batches = (next(iter(eval_batches(images, DataConfig(), 8, 50, 0))) for images in both)
    np.testing.assert_array_equal(*batches)


def _few(shared_data, tmp_path):
    """Prepared folder of the first images of MNIST."""
    from nvae_tf.data.datasets import dataset_info
    from nvae_tf.data.prepare import Preparation
    from nvae_tf.data.splits import open_images

    (tmp_path / "few").mkdir()
    for split in ("train", "test"):
        images = open_images(dataset_info("mnist"), shared_data, split).read(slice(0, 60))
        np.save(tmp_path / "few" / f"{split}.npy", np.stack([image for _, image in images]))
    Preparation(dataset_info("mnist"), tmp_path / "few", log=str).run(tmp_path / "prepared")
    return tmp_path / "prepared"


def test_a_record_damaged_after_preparation_is_left_out(folder, tmp_path, caplog):
    unflipped = DataConfig()
    memory = load_images(config(4), folder, "test").array / np.float32(255)
    images = load_images(config(0), folder, "test", cache_dir=tmp_path)
    (path,) = tmp_path.glob("*/test-*.array_record")
    data = bytearray(path.read_bytes())
    data[data.index(images.read_pngs(np.array([3]))[0]) + 40] ^= 1
    path.write_bytes(data)
    expected = memory.copy()
    expected[3] = memory[4]
    caplog.set_level(logging.WARNING)
    for evaluates_first in (False, True):
        images = load_images(config(0, max_damaged=1), folder, "test", cache_dir=tmp_path)
        if evaluates_first:
            (batch,) = eval_batches(images, unflipped, 8, 10, 0)
            np.testing.assert_array_equal(batch, np.delete(memory, 3, axis=0))
        batch = next(iter(train_batches(images, unflipped, 8, 10, seed=0)))[0].numpy()
        assert sorted(map(bytes, batch)) == sorted(map(bytes, expected))
        assert images.good.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        [message] = [record.getMessage() for record in caplog.records]
        assert message.startswith(f"damaged image, left out (1, at most 1): {path}, record 3: expected an undamaged")
        caplog.clear()
    images = load_images(config(0, max_damaged=0), folder, "test", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="data.max_damaged: expected at most 0 damaged images. Received: 1, the last"):
        eval_batches(images, unflipped, 8, 10, 0)


def test_a_shard_without_records_is_an_error_that_names_it(folder, tmp_path):
    images = load_images(config(0, max_damaged=5), folder, "test", cache_dir=tmp_path)
    (path,) = tmp_path.glob("*/test-*.array_record")
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match=f"{path}: expected 10 records. Received: 0; tools/prep"):
        eval_batches(images, DataConfig(), 8, 3, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{path}: expected 10 records. Received: 0; tools/prep"):
        next(iter(train_batches(images, DataConfig(), 8, 3, 0)))


def test_the_default_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(default_cache_dir()) == "/cache/nvae_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(default_cache_dir()) == "/home/me/.cache/nvae_tf"


def test_padding_is_free_where_the_images_keep_their_size():
    data = DataConfig(dataset="mnist", binarize=True)
    info = check_data(Config(model=BIVAConfig(), data=data))
    assert (info.image_size, info.padding, info.stored_size) == (28, 0, 28)
    with pytest.raises(ValueError, match="^model.image_height: data set mnist has 32. Received: 28$"):
        check_data(Config(model=BIVAConfig(padding=2), data=data))
