"""Runs that are killed, asked to stop, ruined, or meet a full disk."""

import random
import shutil
import signal
import time

import numpy as np
import pytest

from nvae_tf.checkpoint import RunFolder

STEPS = 40
# Fields of a run of 40 steps with guards, a weight average, and a checkpoint every second step.
LONG = {
    "model__num_flows": 0,
    "train__batch_size": 64,
    "train__epochs": 3,
    "train__checkpoint_steps": 2,
    "train__max_steps": STEPS,
    "train__eval_epochs": 0,
    "train__image_epochs": 0,
    "train__stability": "safe",
    "train__precision": "mixed_float16",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(tiny_run, tmp_path_factory):
    """Folder of the uninterrupted run. No test may change it."""
    run_dir = tmp_path_factory.mktemp("survival") / "run"
    status, text = tiny_run(run_dir, **LONG)
    assert status == 0, text
    return run_dir


def test_run_killed_at_random_moments_ends_with_the_uninterrupted_bits(uninterrupted, tiny_run, tmp_path):
    run_dir, moments = tmp_path / "run", random.Random(0)
    last = 0
    for attempt in range(3):
        process = tiny_run.start(run_dir, **LONG)
        if attempt == 1:  # while it starts and restores
            time.sleep(moments.uniform(0.5, 2.0))
        else:
            process.read_to(f"step {last + moments.randint(3, 6)}/{STEPS}")
            time.sleep(moments.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still running
        last = max(RunFolder(run_dir).steps(), default=0)
    assert 5 < last < STEPS
    status, text = tiny_run(run_dir, **LONG)
    assert status == 0, text
    tiny_run.assert_same_checkpoint(uninterrupted, run_dir, STEPS)
    names = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert names == {f"step_{step:08d}" for step in (STEPS - 4, STEPS - 2, STEPS)}


def test_run_asked_to_stop_saves_and_the_same_command_resumes_it(uninterrupted, tiny_run, tmp_path):
    run_dir = tmp_path / "run"
    process = tiny_run.start(run_dir, **LONG | {"train__checkpoint_steps": 50, "train__checkpoint_epochs": 30})
    process.read_to(f"step 3/{STEPS}")
    process.send_signal(signal.SIGTERM)
    output = process.read()
    assert process.wait() == 75, output
    assert "SIGTERM: the run stops after the current step" in output
    (step,) = RunFolder(run_dir).steps()
    assert 3 < step < STEPS and f"stopped: {run_dir}, step {step};" in output
    assert output.splitlines()[-1].endswith("the same command resumes it")
    status, text = tiny_run(run_dir, **LONG)
    assert status == 0 and f"steps {step} to {STEPS}" in text, text
    tiny_run.assert_same_checkpoint(uninterrupted, run_dir, STEPS)


@pytest.fixture
def small_disk(mount, tmp_path):
    """A file system of 1 MiB."""
    (tmp_path / "disk").mkdir()
    return mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")


def test_full_disk_ends_the_run_with_a_message_and_keeps_the_last_good_checkpoint(
    uninterrupted, tiny_run, small_disk, tmp_path
):
    run_dir = small_disk / "run"
    status, text = tiny_run(run_dir, **LONG | {"train__keep_checkpoints": 99})
    assert status == 1 and "Traceback" not in text, text
    last = max(RunFolder(run_dir).steps())
    assert 4 <= last < STEPS
    assert "No space left on device" in text and f"Last good checkpoint: step {last}" in text
    other = tmp_path / "rescued"
    shutil.copytree(run_dir, other)
    status, text = tiny_run(other, **LONG)
    assert status == 0 and f"steps {last} to {STEPS}" in text, text
    tiny_run.assert_same_checkpoint(uninterrupted, other, STEPS)


def test_ruined_run_goes_back_once_with_a_smaller_learning_rate(tiny_run, tmp_path):
    run_dir = tmp_path / "run"
    fields = {
        "train__learning_rate": 1e30,
        "train__warmup_epochs": 1.0,
        "train__max_nonfinite_steps": 2,
        "train__recovery_learning_rate": 1e-33,
        "train__eval_epochs": 0,
        "train__image_epochs": 0,
        "train__checkpoint_epochs": 9,
    }
    # The learning rate of the first step is 0, and the second ruins the weights: the run goes back to before it.
    assert tiny_run(run_dir, **fields, train__max_steps=1)[0] == 0
    other = shutil.copytree(run_dir, tmp_path / "other")
    status, text = tiny_run(other, **fields | {"train__recovery_learning_rate": 0.0}, train__max_steps=9)
    assert status == 1 and "Traceback" not in text and "for 2 steps in a row: loss" in text, text
    assert RunFolder(other).steps() == [1]  # nothing sound to add
    status, text = tiny_run(run_dir, **fields, train__max_steps=9)
    assert status == 0, text
    assert "Back at step 1" in text
    assert "for 2 steps in a row" in text and "with 1e-33 times the learning rate" in text
    state = tiny_run.checkpoint(run_dir, 9)
    factor = next(value for name, value in state.items() if "learning_rate_factor" in name)
    assert factor == np.float32(1e-33)
    assert all(np.isfinite(value).all() for value in state.values())
