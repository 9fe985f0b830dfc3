"""Jobs, formats and shards in one process; tests/tools/test_bulk.py runs them on Ray."""

import dataclasses
import io
import json
import os
import tarfile

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet
import pytest
import tensorflow as tf

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.latents import encode
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.runs.bulk.images import open_files, open_run_images
from nvae_tf.runs.bulk.jobs import Encoding, Sampling, Scoring
from nvae_tf.runs.bulk.shards import Work
from nvae_tf.runs.data import load_images
from nvae_tf.runs.data_record import DataRecord
from nvae_tf.runs.load import choose_weights

_BATCH = 4
_NUM = 10  # two shards and a half


@pytest.fixture(scope="module")
def weights(digits_run):
    return choose_weights(digits_run)


@pytest.fixture(scope="module")
def model(weights):
    return weights.load_folded()


@pytest.fixture(scope="module")
def images(model, digits_run):
    return open_run_images(model.config, None, "test", _NUM, DataRecord(digits_run))


@pytest.fixture
def work(weights, tmp_path):
    """Function that makes the `Work` of a job in a new folder."""

    def make(job, form="webdataset", num_images=_NUM, folder="out"):
        made = Work("job", job, weights, form, tmp_path / folder, num_images, _BATCH)
        made.begin({"seed": job.seed})
        return made

    return make


def _given(images):
    return images, 0, 0, _BATCH


def _finish(work, model, order):
    for number in order:
        work.write(number, model)
    return work.end()


def _pictures(folder):
    """{key: uint8 [H, W]} of all tar files."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as file:
            for entry in file:
                with PIL.Image.open(file.extractfile(entry)) as image:
                    found[entry.name] = np.asarray(image)
    return found


def test_samples_are_those_of_one_draw_and_files_do_not_depend_on_the_order(work, model):
    job = Sampling([0.7, 0.7, 0.7], "mean", 3, _BATCH)
    one, other = work(job), work(job, folder="other")
    shards = _finish(one, model, [0, 1, 2])
    assert [(shard.first, shard.num_images) for shard in shards] == [(0, 4), (4, 4), (8, 2)]
    assert _finish(other, model, [2, 0, 1]) == shards
    names = ["job-00000-of-00003.tar", "job-00001-of-00003.tar", "job-00002-of-00003.tar"]
    assert sorted(os.listdir(one.folder)) == ["_job.json", "_manifest.json", *names]
    for name in os.listdir(one.folder):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    pictures = _pictures(one.folder)
    assert list(pictures) == [f"{number:09}.png" for number in range(_NUM)]
    expected = to_uint8(sample_images(model, _NUM, 0.7, 3, _BATCH))
    np.testing.assert_array_equal(np.stack(list(pictures.values())), expected[..., 0])


def test_what_is_missing_is_written_again_and_nothing_else(work, model):
    made = work(Sampling([1.0] * 3, "mean", 0, _BATCH))
    made.write(1, model)
    assert list(made.finished()) == [1]
    (made.folder / "tmp_0123abcd_job-00000-of-00003.tar").touch()  # of a worker that was killed
    made.begin({"seed": 0})
    assert not list(made.folder.glob("tmp_*")) and list(made.finished()) == [1]
    (made.folder / "tmp_0123abcd_job-00002-of-00003.tar").touch()
    shards = _finish(made, model, [0, 2])
    assert not list(made.folder.glob("tmp_*"))
    manifest = json.loads((made.folder / "_manifest.json").read_text())
    assert manifest["shards"] == [dataclasses.asdict(shard) for shard in shards] and manifest["num_images"] == _NUM
    (made.folder / shards[2].file).write_bytes(b"cut")
    made.begin({"seed": 0})
    assert list(made.finished()) == [0, 1]
    with pytest.raises(FileNotFoundError, match="expected 3 shards. Received: none named job-00002-of-00003.tar"):
        made.end()
    # What is known of a shard that was written again is newer than the manifest.
    manifest["shards"][2]["sha256"] = "that of another"
    (made.folder / "_manifest.json").write_text(json.dumps(manifest))
    assert made.write(2, model) == made.finished()[2] == shards[2]


def test_another_job_or_a_folder_of_others_is_refused(work, tmp_path):
    job = Sampling([1.0] * 3, "mean", 0, _BATCH)
    work(job)
    # A job without a finished shard may still be another.
    (work(dataclasses.replace(job, seed=1)).folder / "job-00000-of-00003.tar").touch()
    work(dataclasses.replace(job, seed=1))
    with pytest.raises(ValueError, match=r"_job.json: expected {'seed': 1}, with which this .* Received: {'seed': 0}"):
        work(job)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    with pytest.raises(FileExistsError, match="expected a folder without other files. Received: 1, a.txt"):
        work(job, folder="mine")


def test_a_shard_that_kills_its_worker_ends_the_job(work, monkeypatch):
    made = work(Sampling([1.0] * 3, "mean", 0, _BATCH))
    for _ in range(5):
        with pytest.raises(AttributeError):  # as a worker that dies, it leaves its attempt
            made.write(0, None)
    with pytest.raises(OSError, match="expected a worker that survives it. Received: 5 that died"):
        made.write(0, None)
    made.begin({"seed": 0})
    with pytest.raises(AttributeError):
        made.write(0, None)


def test_scores_are_those_of_evaluate(work, model, images):
    made = work(Scoring(*_given(images), 2), "parquet")
    _finish(made, model, [1, 2, 0])
    table = pd.read_parquet(made.folder)
    batches = eval_batches(load_images(model.config, None, "test", _NUM), model.config.data, 8, _BATCH, 0)
    expected = evaluate(model, batches, num_samples=2)
    assert table["index"].tolist() == list(range(_NUM)) and table["name"].tolist() == [str(n) for n in range(_NUM)]
    for column, value in (
        ("nelbo", expected.nelbo),
        ("nelbo_bits_per_dim", expected.nelbo_bits_per_dim),
        ("nll_bound", expected.nll_bound),
        ("nll_bound_bits_per_dim", expected.bound_bits_per_dim),
        ("reconstruction", expected.reconstruction),
        ("kl", expected.kl),
    ):
        np.testing.assert_allclose(table[column].mean(), value, rtol=1e-12, err_msg=column)
    np.testing.assert_allclose(np.stack(table["kl_per_group"]).mean(axis=0), expected.kl_per_group, rtol=1e-12)


@pytest.fixture(scope="module")
def encoded(model, images):
    """`Encoded` of the images, in batches of the job."""
    batches = eval_batches(load_images(model.config, None, "test", _NUM), model.config.data, 8, _NUM, 0)
    return encode(model, next(iter(batches)).numpy(), np.arange(_NUM), draw="mean", batch_size=_BATCH)


@pytest.mark.parametrize("form", ["parquet", "webdataset", "tfrecord"])
def test_every_format_holds_the_latents(work, model, images, encoded, form):
    made = work(Encoding(*_given(images), "mean", ["kl", "latents"]), form)
    _finish(made, model, [0, 1, 2])
    paths = sorted(made.folder.glob("job-*"))
    latents, kl = encoded.latents[1], encoded.kl_per_group
    if form == "parquet":
        table = pyarrow.parquet.read_table(made.folder)
        np.testing.assert_array_equal(table["latents_01"].combine_chunks().to_numpy_ndarray(), latents)
        frame = table.to_pandas()
        np.testing.assert_array_equal(np.stack(frame["kl_per_group"]), kl)
        np.testing.assert_array_equal(np.stack(frame["latents_01"]).reshape(latents.shape), latents)
    elif form == "webdataset":
        with tarfile.open(paths[1]) as file:
            found = {name: file.extractfile(name).read() for name in file.getnames()}
        np.testing.assert_array_equal(np.load(io.BytesIO(found["000000005.latents_01.npy"])), latents[5])
        assert json.loads(found["000000005.json"]) == {"index": 5, "name": "5"}
    else:
        features = {"index": tf.io.FixedLenFeature([], tf.int64), "name": tf.io.FixedLenFeature([], tf.string)}
        features["latents_01"] = tf.io.FixedLenFeature(latents.shape[1:], tf.float32)
        (record,) = tf.data.TFRecordDataset([str(path) for path in paths]).skip(5).take(1)
        row = tf.io.parse_single_example(record, features)
        assert (row["index"], row["name"]) == (5, b"5")
        np.testing.assert_array_equal(row["latents_01"], latents[5])


def test_files_are_scored_by_name_and_damaged_ones_are_left_out(work, model, tmp_path):
    config = dataclasses.replace(model.config, data=dataclasses.replace(model.config.data, dataset="folder"))
    (tmp_path / "photos" / "b").mkdir(parents=True)
    digits = load_images(model.config, None, "test", 5).array
    for number, name in enumerate(["a.png", "b/c.png", "b/d.png", "b/e.png", "f.png"]):
        PIL.Image.fromarray(digits[number, ..., 0]).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "b" / "d.png").write_bytes(b"no image")
    found = open_files(config, f"{tmp_path}/photos/**/*.png", 0)
    made = work(Scoring(found, 0, 0, _BATCH, 1), "parquet", num_images=len(found))
    _finish(made, model, [1, 0])
    table = pd.read_parquet(made.folder)
    assert table["name"].tolist() == ["a.png", "b/c.png", "b/e.png", "f.png"]
    assert table["index"].tolist() == [0, 1, 3, 4]
    assert json.loads((made.folder / "_manifest.json").read_text())["num_damaged"] == 1
    with pytest.raises(ValueError, match="--files: expected a pattern of image files. Received: .*none.png, which"):
        open_files(config, f"{tmp_path}/none.png", 0)
