"""Preparing a data set again: after a run that was stopped, with other options, and once it is complete."""

import errno
import fcntl
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from nvae_tf.data import shard_writer
from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.prepare import Options, Preparation

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


@pytest.fixture
def stop_after(monkeypatch):
    """Function that lets only so many shards be written; the next raises what is given."""

    def limit(count, error):
        write, begun = shard_writer.write_record, []

        def write_record(file, data):
            if file.size == 0:
                begun.append(file)
            elif len(begun) > count:  # in the middle of a shard
                raise error
            write(file, data)

        monkeypatch.setattr(shard_writer, "write_record", write_record)

    return limit


def test_a_full_disk_keeps_what_is_done(source, tmp_path, stop_after, monkeypatch):
    stop_after(4, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out")
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert there == [".progress", *(shard("train", number, 6) for number in range(4))]
    assert not list((tmp_path / "out" / ".progress").glob("*.tmp"))
    monkeypatch.undo()
    log = []
    prepare(source, tmp_path / "out", log=log)
    assert log == ["4 of 9 shards are there already, verified"]
    prepare(source, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.fixture
def stopped(source, tmp_path, stop_after, monkeypatch):
    """Folder of a run that has been stopped after four shards."""
    stop_after(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out")
    monkeypatch.undo()
    return tmp_path / "out"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage, message", [(_cut, "bytes"), (_flip, "SHA-256"), (os.remove, "a file")])
def test_what_a_stopped_run_has_left_is_verified(source, tmp_path, stopped, damage, message):
    damage(stopped / shard("train", 1, 6))
    (stopped / ".progress" / f"{shard('train', 2, 6)}.json").write_text('{"shard"')
    (stopped / ".progress" / f"{shard('train', 4, 6)}.tfrecord.123.tmp").write_bytes(b"half")
    log = []
    prepare(source, stopped, log=log)
    assert log[0].startswith(f"written again: {stopped}/train-00001-of-00006.tfrecord: expected ") and message in log[0]
    assert log[1:] == ["2 of 9 shards are there already, verified"]
    prepare(source, tmp_path / "fresh")
    assert contents(stopped) == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    "options, info, message",
    [
        (
            Options(images_per_shard=8),
            INFO,
            "images_per_shard: expected 8, as asked for now. Received: 7; give",
        ),
        (Options(images_per_shard=7, resize=True), INFO, "resize: expected True"),
        (Options(images_per_shard=7, split_seed=3), INFO, "split_seed: expected 3"),
        (Options(images_per_shard=7, test_fraction=0.2), INFO, "test_fraction: expected 0.2"),
        (SMALL, dataset_info("folder").with_size(8, 1), "channels: expected 1, as asked for now. Received: 3"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_another_plan_is_an_error(source, stopped, complete, options, info, message):
    if complete:
        prepare(source, stopped)
    before = {path: path.stat().st_mtime_ns for path in stopped.glob("*.tfrecord")}
    with pytest.raises(ValueError, match=message) as caught:
        prepare(source, stopped, options, info)
    assert str(caught.value).startswith(str(stopped))
    assert {path: path.stat().st_mtime_ns for path in stopped.glob("*.tfrecord")} == before
    prepare(source, stopped)


def test_a_plan_by_which_nothing_was_finished_binds_nobody(source, tmp_path, stop_after, monkeypatch):
    stop_after(0, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out")
    monkeypatch.undo()
    other = Options(images_per_shard=8)
    prepare(source, tmp_path / "out", other)
    prepare(source, tmp_path / "fresh", other)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_first_shard_without_its_record_is_made_again(source, tmp_path, stop_after, monkeypatch):
    stop_after(1, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out")
    monkeypatch.undo()
    (record,) = (tmp_path / "out" / ".progress").glob("train-*.json")
    record.unlink()  # as after a kill between the two
    prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_other_images_than_the_stopped_run_had(source, stopped):
    (source / "train" / "00.png").rename(source / "train" / "0.png")
    with pytest.raises(ValueError, match="plan.json: train.names_sha256: expected '"):
        prepare(source, stopped)
    (source / "train" / "0.png").unlink()
    with pytest.raises(ValueError, match="plan.json: train.num_images: expected 39, as asked for now. Received: 40"):
        prepare(source, stopped)


def test_a_complete_folder_is_verified_and_mended(source, tmp_path):
    folder, log = tmp_path / "out", []
    prepare(source, folder)
    whole = contents(folder)
    prepare(None, folder, log=log)  # without the images
    assert log == ["9 of 9 shards were there, verified"]
    (folder / shard("train", 0, 6)).unlink()
    _flip(folder / shard("test", 1, 3))
    untouched = (folder / shard("train", 3, 6)).stat().st_mtime_ns
    prepare(source, folder, log=log)
    assert contents(folder) == whole and (folder / shard("train", 3, 6)).stat().st_mtime_ns == untouched
    assert [line.split(": expected")[0] for line in log[1:3]] == [
        f"written again: {folder}/{shard('train', 0, 6)}",
        f"written again: {folder}/{shard('test', 1, 3)}",
    ]
    assert log[3] == "7 of 9 shards were there, verified"


def test_mending_with_other_images_is_an_error(source, tmp_path):
    folder = tmp_path / "out"
    prepare(source, folder)
    _cut(folder / shard("train", 0, 6))
    Image.fromarray(IMAGES[50]).save(source / "train" / "00.png")
    with pytest.raises(
        ValueError, match=rf"^{source}: expected the images that {folder} was made from. Received: others"
    ):
        prepare(source, folder)
    shutil.rmtree(source / "test")
    with pytest.raises(ValueError, match=r"was made from, image_folder, 9 shards. Received: image_folder, \d shards"):
        prepare(source, folder)
    assert not (folder / ".progress").exists()


def test_a_folder_with_other_shards(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.tfrecord").touch()
    with pytest.raises(ValueError, match=r"out: expected a folder without shards. Received: mine.tfrecord and so on"):
        prepare(source, tmp_path / "out")


def test_two_programs_at_once(source, stopped):
    with open(stopped / ".progress" / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=rf"^{stopped}: expected no other program that writes it. Received: one"):
            prepare(source, stopped)
    prepare(source, stopped)
