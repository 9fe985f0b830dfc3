import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, DataConfig, ModelConfig
from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.partial_result import PartialResult
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.data import load_images
from nvae_tf.runs.load import load_run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _evaluate(*flags):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "tools" / "evaluate.py"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run folder of a tiny model of the digits."""
    model = ModelConfig(
        image_height=16,
        image_width=16,
        num_scales=1,
        groups_per_scale=2,
        latent_channels=2,
        encoder_channels=2,
        decoder_channels=2,
        preprocess_blocks=1,
        preprocess_cells=1,
        postprocess_blocks=1,
        postprocess_cells=1,
        encoder_cells_per_group=1,
        decoder_cells_per_group=1,
    )
    config = Config(model=model, data=DataConfig(dataset="digits", binarize=True))
    folder = RunFolder(tmp_path_factory.mktemp("run")).create(config)
    folder.save(3, {"model": model_variables(NVAE(model))})
    return folder.path


def test_prints_a_table_and_writes_the_numbers(run_dir):
    done = _evaluate(f"--run_dir={run_dir}", "--num_samples=2", "--batch_size=4", "--max_images=10")
    assert done.returncode == 0, done.stderr
    values = json.loads((run_dir / "evaluation.json").read_text())
    assert values["num_images"] == 10 and values["num_samples"] == 2 and values["step"] == 3
    assert values["dataset"] == "digits" and values["split"] == "test"
    assert len(values["kl_per_group"]) == 2
    assert values["nelbo_bits_per_dim"] == pytest.approx(values["nelbo"] / (256 * math.log(2)))
    assert f"{values['nelbo']:.4f}" in done.stdout and f"{values['kl_per_group'][1]:.4f}" in done.stdout
    assert "10/10 images" in done.stderr
    assert not list(run_dir.glob("*.tmp"))


def test_stopped_it_goes_on_where_it_was(run_dir):
    flags = (f"--run_dir={run_dir}", "--num_samples=3", "--batch_size=4", "--max_images=10")
    partial = run_dir / "evaluation.partial.npz"
    # Saves after every batch, and ends after the second.
    code = (
        "import sys; from nvae_tf.evaluation import partial_result; from tools import evaluate, flags\n"
        "partial_result._SAVE_SECONDS = 0.0\n"
        "save = evaluate.PartialResult.save\n"
        "def saved(self, scores, done):\n    save(self, scores, done); done < 2 or sys.exit(9)\n"
        "evaluate.PartialResult.save = saved; flags.run(evaluate.main)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    stopped = subprocess.run([sys.executable, "-c", code, *flags], env=environment, capture_output=True)
    assert stopped.returncode == 9 and partial.exists()
    with np.load(partial) as file:
        settings = json.loads(str(file["settings"]))
    assert PartialResult(partial, settings).load()[1] == 2
    assert PartialResult(partial, {**settings, "samples": 4}).load()[1] == 0
    done = _evaluate(*flags)
    assert "going on after 8 images" in done.stdout and not partial.exists()
    values = json.loads((run_dir / "evaluation.json").read_text())
    model = load_run(run_dir)
    images = load_images(model.config, None, "test", 10)
    expected = evaluate(model, eval_batches(images, model.config.data, 8, 5, 0), num_samples=3)
    assert values["num_images"] == 10
    assert values["nll_bound"] == pytest.approx(expected.nll_bound, rel=1e-5)
    assert values["nelbo"] == pytest.approx(expected.nelbo, rel=1e-5)


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--run_dir=nowhere", "--run_dir=nowhere: expected a run folder with config.json"),
        ("--data_dir=nowhere", "--data_dir=nowhere: expected an existing folder"),
        ("--num_samples=0", "--num_samples=0"),
        ("--batch_size=x", "--batch_size=x"),
        ("--split=dev", "--split=dev"),
        ("--max_images=-1", "--max_images=-1"),
    ],
)
def test_wrong_flags_are_named(run_dir, flag, message):
    done = _evaluate(f"--run_dir={run_dir}", flag)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


def test_errors_of_the_run_are_told_without_a_traceback(run_dir):
    done = _evaluate(f"--run_dir={run_dir}", "--step=9")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"{run_dir}: expected a step with a checkpoint, one of [3]. Received: 9" in done.stderr
