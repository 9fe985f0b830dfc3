"""tools/convert.py writes a whole run folder, or nothing."""

import os
import pathlib
import subprocess
import sys

import numpy as np

from nvae_tf import load_run
from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _convert(*flags):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "tools" / "convert.py"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_converts_into_an_ordinary_run(small_golden, save_checkpoint, tmp_path):
    checkpoint = small_golden[0]
    path, run_dir = save_checkpoint(checkpoint), tmp_path / "runs" / "converted"
    done = _convert(f"--checkpoint={path}", f"--run_dir={run_dir}")
    assert done.returncode == 0, done.stderr
    converted = model_from_checkpoint(read_checkpoint(path))
    loaded = load_run(run_dir)
    assert loaded.config == converted.config and RunFolder(run_dir).steps() == [checkpoint.global_step]
    values = model_variables(loaded)
    for name, variable in model_variables(converted).items():
        np.testing.assert_array_equal(values[name].numpy(), variable.numpy(), err_msg=name)
    assert [entry.name for entry in run_dir.parent.iterdir()] == ["converted"]
    counters = sum(name.endswith("num_batches_tracked") for name in checkpoint.arrays)
    assert f"entries: {len(values)} used, {counters} ignored" in done.stdout
    assert "parameters: 63,084\n" in done.stdout and f"written: {run_dir}" in done.stdout
    # A second conversion overwrites nothing.
    again = _convert(f"--checkpoint={path}", f"--run_dir={run_dir}")
    assert again.returncode == 1 and "expected a new or empty folder" in again.stderr


def _assert_nothing_written(done, folder, *parts):
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert sorted(entry.name for entry in folder.iterdir()) == ["checkpoint.pt"]


def test_hostile_file(small_golden, save_checkpoint, tmp_path):
    path = save_checkpoint(small_golden[0], optimizer=_Hostile(tmp_path / "ran"))
    done = _convert(f"--checkpoint={path}", f"--run_dir={tmp_path / 'run'}")
    _assert_nothing_written(done, tmp_path, f"convert.py: {path}", "refused; nothing was run")


def test_truncated_file(small_golden, save_checkpoint, tmp_path):
    path = save_checkpoint(small_golden[0])
    path.write_bytes(path.read_bytes()[:-1000])
    done = _convert(f"--checkpoint={path}", f"--run_dir={tmp_path / 'run'}")
    _assert_nothing_written(done, tmp_path, f"convert.py: {path}", "a damaged or foreign file")


def test_missing_entry(small_golden, save_checkpoint, tmp_path):
    import torch

    state = {name: torch.tensor(array) for name, array in small_golden[0].arrays.items() if name != "stem.bias"}
    path = save_checkpoint(small_golden[0], state_dict=state)
    done = _convert(f"--checkpoint={path}", f"--run_dir={tmp_path / 'run'}")
    _assert_nothing_written(done, tmp_path, "convert.py: ", "in the model, not in the checkpoint:\n    stem.bias")


def test_failure_while_writing_leaves_nothing(small_golden, save_checkpoint, tmp_path):
    # The step is part of a file name, which cannot be that long.
    path = save_checkpoint(small_golden[0], global_step=10**300)
    done = _convert(f"--checkpoint={path}", f"--run_dir={tmp_path / 'run'}")
    _assert_nothing_written(done, tmp_path, "convert.py: ", "File name too long")


def test_wrong_flags_are_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    for flags, message in (
        (["--checkpoint=nowhere.pt"], "--checkpoint=nowhere.pt: expected an existing file"),
        ([f"--checkpoint={path}", f"--run_dir={path}"], f"--run_dir={path}: expected a new or empty folder"),
        ([f"--checkpoint={path}", f"--run_dir={tmp_path / 'folder'}"], "expected a new or empty folder"),
        ([f"--checkpoint={path}"], "--run_dir"),
    ):
        done = _convert(*flags)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "folder" / "config.json").read_text() == "{}"
