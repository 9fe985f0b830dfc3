"""tools/convert.py writes a whole run folder, or nothing."""

import numpy as np
import pytest
from absl import flags

from nvae_tf import load_run
from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import ConversionError, read_checkpoint


def test_converts_into_an_ordinary_run(program, small_golden, save_checkpoint, tmp_path, capsys):
    checkpoint = small_golden[0]
    path, run_dir = save_checkpoint(checkpoint), tmp_path / "runs" / "converted"
    (run_dir / "lost+found").mkdir(parents=True)
    program("convert", f"--checkpoint={path}", f"--run_dir={run_dir}").main()
    converted = model_from_checkpoint(read_checkpoint(path))
    loaded = load_run(run_dir)
    assert loaded.config == converted.config and RunFolder(run_dir).steps() == [checkpoint.global_step]
    values = model_variables(loaded)
    for name, variable in model_variables(converted).items():
        np.testing.assert_array_equal(values[name].numpy(), variable.numpy(), err_msg=name)
    assert [entry.name for entry in run_dir.parent.iterdir()] == ["converted"]
    counters = sum(name.endswith("num_batches_tracked") for name in checkpoint.arrays)
    printed = capsys.readouterr().out
    assert f"entries: {len(values)} used, {counters} ignored" in printed
    assert "parameters: 63,084\n" in printed and f"written: {run_dir}" in printed
    with pytest.raises(flags.IllegalFlagValueError, match="expected a new or empty folder; nothing is overwritten"):
        program("convert", f"--checkpoint={path}", f"--run_dir={run_dir}")


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "changes, damage, error, message",
    [
        ({}, _truncate, ConversionError, "a damaged or foreign file"),
        # The step is part of a file name, which cannot be that long: writing fails after it has begun.
        ({"global_step": 10**300}, None, CheckpointError, "File name too long"),
    ],
)
def test_on_any_error_nothing_is_written(
    program, small_golden, save_checkpoint, tmp_path, monkeypatch, changes, damage, error, message
):
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(small_golden[0], **changes)
    if damage:
        damage(path)
    with pytest.raises(error, match=message):
        program("convert", f"--checkpoint={path}", f"--run_dir={tmp_path / 'run'}").main()
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_wrong_flags_are_named(program, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"")
    for arguments, message in (
        (["--checkpoint=nowhere.pt", "--run_dir=run"], "--checkpoint=nowhere.pt: expected an existing file"),
        ([f"--checkpoint={path}", f"--run_dir={path}"], f"--run_dir={path}: expected a new or empty folder"),
        ([f"--checkpoint={path}", f"--run_dir={tmp_path}"], "expected a new or empty folder"),
        ([f"--checkpoint={path}"], "--run_dir"),
    ):
        with pytest.raises(flags.IllegalFlagValueError, match=message):
            program("convert", *arguments)
