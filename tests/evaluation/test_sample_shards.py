import json
import shutil

import numpy as np
import pytest

from nvae_tf.evaluation.sample_shards import begin, shard_numbers, shard_path, write_shard
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.runs.load import load_folded


def _numbered(first):
    return np.arange(first, first + 3, dtype=np.uint8).reshape(3, 1, 1, 1)


def test_every_shard_has_one_worker():
    workers = [shard_numbers(20, 70, 10, index, 3) for index in range(3)]
    assert sorted(number for numbers in workers for number in numbers) == list(range(2, 9))


@pytest.mark.parametrize("name, first, num", [("first", 5, 10), ("num", 10, 15)])
def test_parts_of_shards_are_refused(name, first, num):
    with pytest.raises(ValueError, match=rf"--{name}: expected a multiple of --shard_size=10\. Received: "):
        shard_numbers(first, num, 10, 0, 1)


def test_a_shard_is_whole_or_absent(tmp_path):
    path = shard_path(tmp_path, 2)
    writing = write_shard(path, 14, 7, 3, _numbered)
    assert next(writing) == 3 and not path.exists()
    writing.close()  # as an interruption does
    assert list(tmp_path.iterdir()) == []
    assert list(write_shard(path, 14, 7, 3, _numbered)) == [3, 6, 7]
    assert [file.name for file in tmp_path.iterdir()] == ["images_000002.npy"]
    np.testing.assert_array_equal(np.load(path).ravel(), range(14, 21))


def test_a_full_disk_is_an_error(small_disk):
    with pytest.raises(OSError, match="No space left on device"):  # not a bus error, which ends the process
        list(
            write_shard(small_disk / "images_000000.npy", 0, 30, 3, lambda first: np.zeros((3, 256, 256, 1), np.uint8))
        )
    assert list(small_disk.iterdir()) == []


def test_a_folder_holds_images_of_one_kind(tmp_path):
    begin(tmp_path / "new", {"seed": 1, "size": 2})
    begin(tmp_path / "new", {"seed": 1, "size": 2})
    message = r"shards.json: expected {'seed': 1}, with which its shards were drawn. Received: {'seed': 3}"
    with pytest.raises(ValueError, match=message):
        begin(tmp_path / "new", {"seed": 3, "size": 2})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shards.json"]


def test_workers_draw_the_images_of_a_single_draw_and_skip_existing_shards(program, digits_run, tmp_path, capsys):
    run_dir, tmp_path = shutil.copytree(digits_run, tmp_path / "run"), tmp_path / "shards"
    (run_dir / "evaluation.json").write_text("{")  # the images do not depend on it

    def work(worker_index):
        flags = (f"--shards_dir={tmp_path}", "--first=4", "--num=12", "--shard_size=4", "--batch_size=3")
        temperature = "--temperature=0.7"
        workers = ("--num_workers=2", f"--worker_index={worker_index}")
        program("sample", f"--run_dir={run_dir}", *flags, temperature, *workers).main()

    work(0)
    assert f"written: 2 shards in {tmp_path}; 0 existed" in capsys.readouterr().out
    shard_path(tmp_path, 3).unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    work(0)
    assert f"written: 1 shards in {tmp_path}; 1 existed" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    work(1)
    shards = [np.load(shard_path(tmp_path, number)) for number in (1, 2, 3)]
    expected = sample_images(load_folded(digits_run), 12, 0.7, first=4)
    np.testing.assert_allclose(np.concatenate(shards), to_uint8(expected), atol=1)
    assert json.loads((tmp_path / "shards.json").read_text())["step"] == 3
