"""tools/train.py: what a run writes, how it resumes, and what it refuses."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nvae_tf.checkpoint import RunFolder
from nvae_tf.config import Config, ConfigError, DataConfig, ModelConfig, TrainConfig
from nvae_tf.runs import prepare as prepare_run
from nvae_tf.runs.interruption import Interruption
from tests.processes import run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FILES = {"checkpoints", "config.json", "data.json", "metrics.jsonl", "tensorboard"}
DIGITS = REPOSITORY / "configs" / "digits.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_run):
    """What the first command printed, and its run folder, trained for four steps. No test may change the folder."""
    run_dir = tmp_path_factory.mktemp("train") / "digits[1] *?\\,%#é"
    command = [sys.executable, *tiny_run.command(run_dir)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, run_dir


def test_run_folder_holds_config_checkpoints_and_tensorboard(trained):
    text, run_dir = trained
    assert {path.name for path in run_dir.iterdir()} == FILES
    folder = RunFolder(run_dir)
    assert folder.config.data.dataset == "digits" and folder.config.train.batch_size == 718
    assert folder.steps() == [2, 4]
    assert folder.parts() == ["guards", "model", "optimizer", "spectral"]
    assert folder.config.train.num_replicas == 1
    assert "steps 0 to 4, 2 an epoch" in text and "step 4/4  loss" in text
    assert text.count("traced in") == 1
    (metrics,) = (json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines())
    assert metrics["step"] == 4 and metrics["split"] == "test" and len(metrics["kl_per_group"]) == 2
    summary = text.splitlines()[-1]
    assert summary.startswith(f"done: {run_dir}, step 4; 4 steps in ")
    assert f"test nelbo {metrics['nelbo']:.2f} nats" in summary


def test_tensorboard_has_scalars_and_pictures(trained):
    accumulator = EventAccumulator(str(trained[1] / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in accumulator.Tensors("train/nelbo")] == [1, 2, 3, 4]
    assert [event.step for event in accumulator.Tensors("test/nelbo")] == [4]
    width, height = tf.make_ndarray(accumulator.Tensors("reconstructions")[0].tensor_proto)[:2]
    assert int(width) > int(height) > 64


def test_figures_during_training_are_those_of_evaluate(trained, program, tmp_path):
    """metrics.jsonl against tools/evaluate.py on the same images."""
    run_dir = shutil.copytree(trained[1], tmp_path / "run")
    program("evaluate", f"--run_dir={run_dir}", "--max_images=8").main()
    expected = json.loads((run_dir / "evaluation.json").read_text())
    metrics = json.loads((run_dir / "metrics.jsonl").read_text())
    for name in ("nelbo", "nelbo_bits_per_dim", "kl", "kl_per_group"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, err_msg=name)


def test_interrupted_run_resumes_bit_for_bit_in_a_new_process(trained, tiny_run, tmp_path):
    _, run_dir = trained
    other = tmp_path / "run"
    shutil.copytree(run_dir, other)
    shutil.rmtree(other / "checkpoints" / "step_00000004")
    # Fields that may change: one step more, without pictures and evaluation.
    status, text = tiny_run(other, train__max_steps=5, train__image_epochs=0, train__eval_epochs=0)
    assert status == 0, text
    assert "steps 2 to 5" in text and "step 3/5" in text and "step 2/5" not in text
    tiny_run.assert_same_checkpoint(run_dir, other, 4)
    assert RunFolder(other).steps() == [2, 4, 5]


@pytest.mark.slow
def test_best_and_milestones_are_kept_and_a_profile_is_written(tiny_run, tmp_path):
    run_dir = tmp_path / "run"
    fields = {
        # XLA takes minutes to compile a larger model for a CPU.
        "model__groups_per_scale": 1,
        "model__num_flows": 0,
        "data__validation_images": 100,
        "train__batch_size": 300,
        "train__max_steps": 24,
        "train__eval_epochs": 1,
        "train__eval_images": 0,
        "train__milestone_epochs": 4,
        "train__keep_checkpoints": 1,
        "train__image_epochs": 0,
    }
    status, text = tiny_run(run_dir, "--jit_compile", "--profile=2,4", **fields)
    assert status == 0, text
    folder = RunFolder(run_dir)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24] and rows[0]["split"] == "validation"
    best = min(rows, key=lambda row: row["nelbo"])
    assert folder.best() == {"step": best["step"], "nelbo": best["nelbo"]}
    assert f"best {best['nelbo']:.2f} at step {best['step']}" in text.splitlines()[-1]
    assert {16, 24, best["step"]} <= set(folder.steps()) and 4 not in folder.steps() and 12 not in folder.steps()
    assert len(list((run_dir / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))) == 1


@pytest.fixture
def prepare(monkeypatch):
    """`prepare` of nvae_tf/runs/prepare.py, without its effect on the whole process."""
    monkeypatch.setattr(prepare_run, "configure_runtime", lambda: None)
    return lambda config, run_dir, data_dir: prepare_run.prepare(config, run_dir, data_dir, Interruption())


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config=nowhere.py", "--config.train.seed=1"], "nowhere.py"),
        (["--config={digits}", "--config.train.lr=1"], "--config.train.lr: expected one of ['autoencoder_run', "),
        (["--config={digits}", "--config.model.family=biva"], "expected a --config of that family instead. Received: "),
        (["--config={digits}", "--config.train.precision=half"], "--config.train.precision: expected one of"),
        (["--config={digits}", "--profile=3"], "--profile=['3']: expected START,STOP"),
    ],
)
def test_wrong_flags_end_the_program_with_a_message(tmp_path, flags, message):
    flags = [flag.format(digits=DIGITS) for flag in flags]
    status, text = run(REPOSITORY / "tools" / "train.py", f"--run_dir={tmp_path / 'run'}", *flags)
    assert status != 0 and message in text and "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config=nowhere.py"], "--config: (?s:.*)nowhere.py"),
        (["--config={digits}", "--strategy=multi_worker"], "strategy: multi_worker expected the workers"),
        (["--config={digits}", "--worker_index=1"], "--workers and --worker_index: expected both"),
        (["--config={digits}", "--workers=a:1", "--worker_index=1"], "--worker_index: expected an index from 0 to 0"),
        (["--config={mnist}"], "data_dir: expected a folder with mnist(?s:.*)train-images-idx3"),
    ],
)
def test_wrong_input_is_named_before_anything_is_made(tmp_path, program, prepare, flags, message):
    flags = [flag.format(digits=DIGITS, mnist=DIGITS.with_name("mnist.py")) for flag in flags]
    with pytest.raises((ValueError, OSError), match=message):
        program("train", f"--run_dir={tmp_path / 'run'}", *flags).main()
    assert not (tmp_path / "run").exists()


def test_finished_run_is_left_as_it_is(trained, prepare, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(trained[1], run_dir)
    before = {path: path.stat().st_mtime_ns for path in run_dir.glob("checkpoints/**/*")}
    training = prepare(RunFolder(run_dir).config, run_dir, None)
    training.run()
    assert "steps 4 to 4" in capsys.readouterr().out and training.trainer.step == 4
    assert {path: path.stat().st_mtime_ns for path in run_dir.glob("checkpoints/**/*")} == before


def test_changed_config_is_refused_field_by_field(trained, prepare):
    _, run_dir = trained
    config = RunFolder(run_dir).config
    config.train.learning_rate, config.model.latent_channels, config.data.validation_images = 0.5, 3, 10
    config.train.max_steps = 5  # may change, and so is not named
    with pytest.raises(ConfigError, match="--run_dir") as caught:
        prepare(config, run_dir, None)
    named = [line.strip() for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert sorted(named) == [
        "data.validation_images: expected 0. Received: 10",
        "model.latent_channels: expected 2. Received: 3",
        "train.learning_rate: expected 0.01. Received: 0.5",
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": DataConfig(dataset="nothing")}, "dataset: expected one of"),
        ({"data": DataConfig(dataset="digits", binarize=False)}, "data.binarize: expected True"),
        ({"data": DataConfig(dataset="digits", binarize=True, validation_images=1437)}, "validation_images"),
        ({"model": ModelConfig()}, "model.image_height: data set digits has 16. Received: 32"),
        ({"train": TrainConfig(num_replicas=8)}, "train.num_replicas: expected 1, the devices found"),
        ({"train": TrainConfig(batch_size=1438)}, "batch_size: expected .* at most 1437"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_the_folder_is_made(tmp_path, prepare, change, message):
    model = ModelConfig(image_height=16, image_width=16)
    config = dataclasses.replace(Config(model, DataConfig(dataset="digits", binarize=True)), **change)
    with pytest.raises(ValueError, match=message):
        prepare(config, tmp_path / "run", None)
    assert not (tmp_path / "run").exists()
