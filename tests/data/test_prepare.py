"""Preparation of data sets: the files, resuming after an interruption, other options, and complete folders."""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from nvae_tf.config import DataConfig
from nvae_tf.data import shards
from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.decode import DamagedImageError
from nvae_tf.data.prepare import Preparation
from nvae_tf.data.shards import images_per_shard
from nvae_tf.data.splits import open_images

INFO = dataset_info("folder").with_size(8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of seven images."""
    monkeypatch.setattr(shards, "_MIN_IMAGES", 7)


@pytest.fixture
def source(tmp_path):
    """Folder with 60 images: 40 to train on, 20 held out."""
    for index, image in enumerate(IMAGES):
        path = tmp_path / "source" / ("train" if index < 40 else "test") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "source"


def prepare(source, folder, config=None, info=INFO, log=None, num_processes=1):
    lines = [] if log is None else log
    manifest = Preparation(info, source, config, num_processes, lines.append).run(folder)
    lines[:] = [line for line in lines if not line.startswith("images taken from")]
    return manifest


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_as_if_never_stopped(source, folder):
    prepare(source, folder.parent / "fresh")
    assert contents(folder) == contents(folder.parent / "fresh")


def shard(split, number):
    return f"{split}-{number:05}-of-{6 if split == 'train' else 3:05}.array_record"


def read(folder, split):
    return [image for _, image in open_images(INFO, folder, split).read()]


def test_records_are_png_files_and_the_manifest_describes_them(source, tmp_path):
    manifest = prepare(source, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert str(tmp_path) not in json.dumps(stored)
    expected = {"format": "nvae_tf prepared images", "version": 3, "dataset": "folder", "source": "image_folder"}
    expected |= {"image_size": 8, "channels": 3, "resize": False}
    expected |= {"split_seed": 0, "test_fraction": 0.1, "split_rule": "name", "drawn": False}
    assert {name: value for name, value in stored.items() if name not in ("splits", "files")} == expected
    files = {"manifest.json"}
    for split, images in (("train", IMAGES[:40]), ("test", IMAGES[40:])):
        records = []
        for entry in stored["splits"][split]:
            path = tmp_path / "out" / entry["file"]
            assert entry["bytes"] == path.stat().st_size and entry["damaged"] == []
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            part = ArrayRecordReader(str(path)).read_all()
            assert len(part) == entry["num_images"]
            records += part
            files.add(entry["file"])
        for record, image in zip(records, images, strict=True):
            with Image.open(io.BytesIO(record), formats=["PNG"]) as opened:
                np.testing.assert_array_equal(np.asarray(opened), image)
        np.testing.assert_allclose(manifest.mean(split), images.mean((0, 1, 2)), rtol=1e-12)
    assert set(contents(tmp_path / "out")) == files and len(files) == 1 + 6 + 3


def test_neither_place_nor_processes_matter_and_it_opens_like_any_data_set(source, tmp_path, monkeypatch):
    (source / "train" / "11.png").write_bytes(b"damaged")
    for number in (1, 2):
        prepare(source, tmp_path / str(number), num_processes=number)
    source.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    prepare("moved", tmp_path / "3")
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")
    shutil.rmtree("moved")
    images = read(tmp_path / "1", "train")
    assert isinstance(images.pop(11), DamagedImageError)
    np.testing.assert_array_equal(images, np.delete(IMAGES[:40], 11, axis=0))
    np.testing.assert_array_equal(read(tmp_path / "1", "test"), IMAGES[40:])


def test_the_split_of_a_data_set_without_one_follows_the_seed(source, tmp_path):
    for path in source.glob("*/*.png"):
        path.rename(source / path.name)
    for folder in ("train", "test"):
        (source / folder).rmdir()
    parts = {}
    for seed in (0, 1):
        config = DataConfig(split_seed=seed, test_fraction=0.25)
        prepare(source, tmp_path / str(seed), config)
        for split in ("train", "test"):
            parts[seed, split] = read(tmp_path / str(seed), split)
            found = [image for _, image in open_images(INFO, source, split, config).read()]
            np.testing.assert_array_equal(parts[seed, split], found)
    assert len(parts[0, "test"]) == 17 and not np.array_equal(parts[0, "test"], parts[1, "test"])


def test_images_of_another_size(source, tmp_path):
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(source / "train" / "05.png")
    message = rf"^{source}/train/05.png: expected an image of 8x8 \(height x width\), or resize=True. "
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "resized", DataConfig(resize=True))
    assert (read(tmp_path / "resized", "train")[5] == 77).all()


def test_damaged_images_are_named_and_keep_their_numbers(source, tmp_path):
    for name in ("train/03.png", "train/20.png", "test/41.png"):
        (source / name).write_bytes(b"damaged")
    log = []
    manifest = prepare(source, tmp_path / "out", log=log)
    assert manifest.damaged("train") == [[3, "train/03.png"], [20, "train/20.png"]]
    assert manifest.damaged("test") == [[1, "test/41.png"]]
    assert [entry.num_images for entry in manifest.splits["train"]] == [6, 7, 6, 7, 7, 5]
    assert log[1].startswith(f"damaged image, left out (2 in train): {source}/train/20.png: expected a PNG")
    images = read(tmp_path / "out", "train")
    assert str(images[20]) == "train/20.png: damaged when the set was prepared"
    np.testing.assert_array_equal(images[4:20], IMAGES[4:20])


@pytest.mark.parametrize("names", [(3, 20, 30), (1, 2, 3)])  # in several shards, and in one
def test_too_many_damaged_images_and_then_a_larger_limit(source, tmp_path, names):
    for name in names:
        (source / "train" / f"{name:02}.png").write_bytes(b"damaged")
    message = r"^max_damaged: expected at most 2 damaged images in train. Received: 3, the last: .*/train/\d\d.png: "
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out", DataConfig(max_damaged=2))
    written = len(list((tmp_path / "out").glob("*.array_record")))
    log = []
    prepare(source, tmp_path / "out", DataConfig(max_damaged=3), log=log)
    assert not written or f"{written} finished shards verified" in log
    assert_as_if_never_stopped(source, tmp_path / "out")


def test_progress_counts_images(source, tmp_path):
    counts = []

    def make(total):
        assert total == 60
        return counts.append

    Preparation(INFO, source, make_progress=make).run(tmp_path / "out")
    assert counts == [7, 14, 21, 28, 35, 40, 47, 54, 60]


@pytest.mark.parametrize(
    "num_images, image_bytes, expected",
    [
        (12_000, 32 * 32 * 3, 375),  # 32 files
        (1_000, 32 * 32 * 3, 64),
        (1_281_149, 64 * 64 * 3, 21_845),  # 256 MiB
        (27_000, 256 * 256 * 3, 844),
        (3_000_000, 256 * 256 * 3, 5860),  # 512 files
        (10, 2**30, 1),
    ],
)
def test_images_of_a_shard(monkeypatch, num_images, image_bytes, expected):
    monkeypatch.setattr(shards, "_MIN_IMAGES", 64)
    assert images_per_shard(num_images, image_bytes) == expected


@pytest.fixture
def stop_after(monkeypatch):
    """Function that allows a number of images to be written, and makes the next one raise the error."""

    def limit(count, error):
        encode, encoded = shards.encode_png, []

        def encode_png(image):
            encoded.append(image)
            if len(encoded) > count:
                raise error
            return encode(image)

        monkeypatch.setattr(shards, "encode_png", encode_png)

    return limit


@pytest.fixture
def stopped(source, tmp_path, stop_after, monkeypatch):
    """Folder of a run that was stopped while writing its fifth shard."""
    stop_after(30, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(shards, "_MIN_IMAGES", 7)
    return tmp_path / "out"


def test_a_stopped_run_keeps_what_is_done(source, stopped):
    assert sorted(path.name for path in stopped.iterdir()) == [".progress", *(shard("train", i) for i in range(4))]
    log = []
    prepare(source, stopped, log=log)
    assert log == ["4 finished shards verified"]
    assert_as_if_never_stopped(source, stopped)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, os.remove])
def test_the_files_of_a_stopped_run_are_verified(source, stopped, damage):
    damage(stopped / shard("train", 1))
    (stopped / ".progress" / f"{shard('train', 2)}.json").unlink()  # as if killed between the two writes
    (stopped / f"tmp_0123abcd_{shard('train', 4)}").write_bytes(b"half")
    log = []
    prepare(source, stopped, log=log)
    assert log == [
        f"written again: {stopped}/{shard('train', 1)} is missing or differs from its checksum",
        "2 finished shards verified",
    ]
    assert_as_if_never_stopped(source, stopped)


@pytest.mark.parametrize(
    "options, info, message",
    [
        (DataConfig(resize=True), INFO, "resize: expected True, as requested now. Received: False; use"),
        (DataConfig(split_seed=3), INFO, "split_seed: expected 3"),
        (DataConfig(test_fraction=0.2), INFO, "test_fraction: expected 0.2"),
        (DataConfig(), dataset_info("folder").with_size(8, 1), "channels: expected 1"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_another_plan_is_an_error(source, stopped, complete, options, info, message):
    if complete:
        prepare(source, stopped)
    before = {path: path.stat().st_mtime_ns for path in stopped.glob("*.array_record")}
    with pytest.raises(ValueError, match=message) as caught:
        prepare(source, stopped, options, info)
    assert str(caught.value).startswith(str(stopped))
    assert {path: path.stat().st_mtime_ns for path in stopped.glob("*.array_record")} == before


def test_a_plan_does_not_count_before_the_first_shard_is_finished(source, tmp_path, stop_after, monkeypatch):
    stop_after(3, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out", DataConfig(split_seed=1))
    monkeypatch.undo()
    monkeypatch.setattr(shards, "_MIN_IMAGES", 7)
    prepare(source, tmp_path / "out")
    assert_as_if_never_stopped(source, tmp_path / "out")


def test_other_images_than_the_stopped_run_had(source, stopped):
    path = source / "train" / "00.png"
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="plan.json: files: expected '"):
        prepare(source, stopped)
    path.unlink()
    with pytest.raises(ValueError, match=r"plan.json: num_images: expected {'train': 39, .* Received: {'train': 40, "):
        prepare(source, stopped)


def test_a_complete_folder_is_verified_and_repaired(source, tmp_path):
    folder, log = tmp_path / "out", []
    prepare(source, folder)
    whole = contents(folder)
    prepare(None, folder, log=log)  # without the images
    assert log == [f"{folder}: there is no folder --data_dir to compare it with", "9 finished shards verified"]
    (folder / shard("train", 0)).unlink()
    _flip(folder / shard("test", 1))
    untouched = (folder / shard("train", 3)).stat().st_mtime_ns
    prepare(source, folder, log=log)
    assert contents(folder) == whole and (folder / shard("train", 3)).stat().st_mtime_ns == untouched
    assert [line.split(" is missing")[0] for line in log[2:]] == [
        f"{source}: as many images as {folder} was made from, in files of the same names, sizes and, where compared, "
        "content",
        f"written again: {folder}/{shard('train', 0)}",
        f"written again: {folder}/{shard('test', 1)}",
        "7 finished shards verified",
    ]


def test_repairing_with_other_images_is_an_error(source, tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.data.fingerprint._NUM_SAMPLED", 1)
    folder = tmp_path / "out"
    prepare(source, folder)
    _cut(folder / shard("train", 0))
    Image.fromarray(IMAGES[1] ^ 1).save(source / "train" / "01.png")
    message = f"^{source}: expected the images of {folder / shard('train', 0)}. Received: others"
    with pytest.raises(ValueError, match=message):
        prepare(source, folder)
    shutil.rmtree(source / "test")
    with pytest.raises(ValueError, match="Received: {'train': 37, 'test': 3} in image_folder; prepare them"):
        prepare(source, folder)
    assert not (folder / ".progress").exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_complete_folder_is_not_said_to_hold_other_images(source, tmp_path, old):
    prepare(source, folder := tmp_path / "out")
    manifest = json.loads((folder / "manifest.json").read_text())
    if old:  # from before names, fingerprints and the rule of the split were recorded
        for part in sum(manifest["splits"].values(), []):
            del part["names"], part["fingerprint"]
        del manifest["files"], manifest["split_rule"]
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    log, received = [], {"train": 40, "test": 20}
    prepare(source, folder, log=log)
    assert "as many images" in log[0] and ("names, sizes" in log[0]) != old
    Image.fromarray(IMAGES[3] ^ 1).save(source / "train" / "03.png")  # of the same size
    for change in ({}, {"train": 41}):
        if change:
            shutil.copy(source / "train" / "01.png", source / "train" / "another.png")
        if not old or change:
            message = rf"made from, {received} in image_folder. Received: {received | change} in .*; prepare them to an"
            with pytest.raises(ValueError, match=message):
                prepare(source, folder)


@pytest.mark.parametrize("names", [["mine.array_record", "tmp_0123abcd_mine", "tmp_raw"], []])
def test_what_is_in_the_folder_already_is_left_there(source, tmp_path, names):
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).touch()
    message = "out: expected an empty folder. Received: mine" if names else "data_dir: expected"
    with pytest.raises((ValueError, OSError), match=message):
        prepare(source if names else tmp_path / "out", tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == names


def test_two_programs_at_once(source, stopped, tmp_path):
    manifest = prepare(source, finished := tmp_path / "finished")
    with open(stopped / ".progress" / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=rf"^{stopped}: expected no other program that writes it. Received: one"):
            prepare(source, stopped)
        preparation = Preparation(INFO, source, log=lambda line: None)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(preparation.run, stopped, wait=True)
            time.sleep(0.2)  # until it waits
            # What the other program does at its end.
            shutil.copytree(finished, stopped, dirs_exist_ok=True)
            shutil.rmtree(stopped / ".progress")
            fcntl.flock(file, fcntl.LOCK_UN)
            assert waiting.result() == manifest
    assert contents(stopped) == contents(finished)


def test_the_cache_holds_one_folder_for_each_state_of_the_files(source, tmp_path):
    def cached(num_processes=1, **options):
        log = []
        preparation = Preparation(INFO, source, DataConfig(**options), num_processes, log.append)
        folder = preparation.in_cache(tmp_path / "cache")
        assert folder.parent == tmp_path / "cache" and folder.name.endswith("-8")
        return folder, log

    first, log = cached()
    assert log == [f"folder: prepared once, in {first}; resumed if it is stopped"]
    before = contents(first)
    assert cached(num_processes=2, max_damaged=3) == (first, [])
    os.utime(source / "train" / "07.png", (1, 1))
    second, log = cached()
    assert second != first and len(log) == 1 and contents(first) == contents(second) == before
    assert cached(resize=True)[0] not in (first, second)
    (tmp_path / "more").mkdir()
    (source / "train" / "linked").symlink_to(tmp_path / "more")
    assert cached()[0] == second
    shutil.copy(source / "train" / "00.png", tmp_path / "more" / "new.png")
    assert cached()[0] not in (first, second)
