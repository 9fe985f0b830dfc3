import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from nvae_tf.evaluation.sampling import evaluated_kernels, sample_images
from nvae_tf.runs.load import load_run
from nvae_tf.runs.starts import Starts

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _traverse(*flags):
    command = [sys.executable, str(REPOSITORY / "tools" / "traverse.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _rows(path, columns):
    with PIL.Image.open(path) as file:
        pixels = np.pad(np.asarray(file), [(0, 2), (0, 2)])
    return pixels.reshape(-1, 18, columns, 18).transpose(0, 2, 1, 3)[:, :, :16, :16]


@pytest.fixture(scope="module")
def model(digits_run):
    return load_run(digits_run)


def test_a_row_for_each_image_begins_with_it_unchanged(digits_run, model, program, tmp_path, capsys):
    out = tmp_path / "rows.png"
    flags = ("--seeds=1,2,7", "--scale=1", "--columns=4", "--batch_size=3", "--temperature=0.8", f"--out={out}")
    program("traverse", f"--run_dir={digits_run}", *flags).main(["traverse"])
    rows = _rows(out, 4)
    assert rows.shape == (3, 4, 16, 16)
    for seed, row in zip((1, 2, 7), rows, strict=True):
        unchanged = sample_images(model, 1, 0.8, seed=seed)[0, ..., 0]
        np.testing.assert_allclose(row[0], 255 * unchanged, atol=0.6)
        assert min(np.abs(np.int32(picture) - row[0]).max() for picture in row[1:]) > 8
    printed = capsys.readouterr().out
    assert "groups that change: 1, 2 of 3" in printed and f"written: {out}" in printed


@pytest.mark.parametrize("what", [(), ("--channel=1",)])
def test_only_the_noise_of_the_group_changes(digits_run, model, program, what):
    flags = (f"--run_dir={digits_run}", "--images=3,17", "--group=1", "--columns=4", "--seed=5")
    tool = program("traverse", *flags, *what)
    starts = Starts(model.config, tool.FLAGS)
    noise = starts.noise(model, evaluated_kernels(model))[1]
    changed = tool.changed_noise(model, noise, starts.keys[1], [1])
    for group in (0, 2):
        np.testing.assert_array_equal(changed[group], np.repeat(noise[group], 4, axis=0))
    np.testing.assert_array_equal(changed[1][:1], noise[1])
    if what:
        np.testing.assert_array_equal(changed[1][1:, ..., 1], np.repeat([-3.0, 0.0, 3.0], 64).reshape(3, 8, 8))
        np.testing.assert_array_equal(changed[1][1:, ..., 0], np.repeat(noise[1], 3, axis=0)[..., 0])
    else:
        assert len(np.unique(changed[1])) == changed[1].size


def test_fresh_draws_follow_the_temperature(digits_run, model, program):
    rows = []
    for temperature in (1.0, 0.25):
        tool = program("traverse", f"--run_dir={digits_run}", "--images=3", "--group=0", f"--temperature={temperature}")
        starts = Starts(model.config, tool.FLAGS)
        noise = starts.noise(model, evaluated_kernels(model))[0]
        rows.append(tool.changed_noise(model, noise, starts.keys[0], [0])[0])
    np.testing.assert_array_equal(rows[0][0], rows[1][0])
    np.testing.assert_allclose(rows[0][1:] * 0.25, rows[1][1:], rtol=1e-6)


def test_groups_of_a_scale(digits_run, model, program):
    chosen_groups = program("traverse", f"--run_dir={digits_run}", "--seeds=1", "--scale=1").chosen_groups
    config = model.model_config
    assert chosen_groups(config, None, 0, None) == [0] and chosen_groups(config, None, 1, 1) == [1, 2]
    assert chosen_groups(config, 2, None, None) == [2]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--group=3"], "--group: expected 0 to 2. Received: 3"),
        (["--scale=2"], "--scale: expected 0 to 1. Received: 2"),
        (["--group=0", "--channel=2"], "--channel: expected 0 to 1. Received: 2"),
    ],
)
def test_what_the_model_does_not_have_is_named_before_it_is_built(digits_run, program, monkeypatch, flags, message):
    monkeypatch.setattr("nvae_tf.runs.load.load_run", None)
    with pytest.raises(SystemExit) as error:
        program("traverse", f"--run_dir={digits_run}", "--seeds=1", *flags).main(["traverse"])
    assert str(error.value) == f"traverse.py: {message}"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seeds=1"], "Exactly one of (group, scale)"),
        (["--seeds=1", "--group=0", "--scale=0"], "Exactly one of (group, scale)"),
        (["--group=0"], "Exactly one of (images, seeds)"),
        (["--seeds=1", "--group=-1"], "--group=-1"),
        (["--seeds=1", "--group=0", "--columns=1"], "--columns=1"),
    ],
)
def test_wrong_flags_are_named(digits_run, flags, message):
    done = _traverse(f"--run_dir={digits_run}", *flags)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
