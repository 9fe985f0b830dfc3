"""Official checkpoints as files, and a tiny run of train.py."""

import argparse
import pathlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from nvae_tf.files import plain_path
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.load import load_folded
from tests.processes import Program, run

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# The smallest model of the digits with every kind of state, and two steps per epoch.
_TINY_RUN = {
    "model.num_scales": 1,
    "model.groups_per_scale": 2,
    "model.latent_channels": 2,
    "model.encoder_channels": 2,
    "model.decoder_channels": 2,
    "model.preprocess_cells": 1,
    "model.postprocess_cells": 1,
    "model.num_flows": 1,
    "train.batch_size": 718,
    "train.epochs": 10,
    "train.max_steps": 4,
    "train.log_steps": 1,
    "train.eval_epochs": 9,
    "train.eval_images": 8,
    "train.image_epochs": 9,
    "train.checkpoint_epochs": 1,
}


@pytest.fixture(scope="session")
def model(digits_run):
    """The folded model of `digits_run`. Shared: no test may change it."""
    return load_folded(digits_run)


@pytest.fixture(autouse=True)
def only_training_runs_the_nvae(request, monkeypatch):
    """Programs that evaluate a run load its `NVAE` and fold it; what they run is the folded model."""
    program = request.module.__name__.rpartition("test_")[2]
    if program in ("sample", "fid", "report", "evaluate", "reconstruct", "interpolate", "traverse", "encode"):
        for name in ("encode", "infer", "generate", "decode", "prior_noise"):
            monkeypatch.setattr(NVAE, name, None)


@pytest.fixture
def save_checkpoint(tmp_path):
    """Function that writes an `OfficialCheckpoint` as a checkpoint.pt; keywords replace parts of it."""
    torch = pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")

    def save(checkpoint, **changes):
        path = tmp_path / "checkpoint.pt"
        content = {
            "state_dict": {name: torch.tensor(array) for name, array in checkpoint.arrays.items()},
            "args": argparse.Namespace(**checkpoint.arguments),
            "optimizer": {},
            "epoch": 1,
            "global_step": checkpoint.global_step,
        }
        torch.save(content | changes, path)
        return path

    return save


class TinyRun:
    """tools/train.py on the digits, in a separate process."""

    def command(self, run_dir, *flags, **overrides):
        """The program and its flags; train__epochs=3 overrides the field train.epochs."""
        fields = _TINY_RUN | {name.replace("__", "."): value for name, value in overrides.items()}
        config = [f"--config.{name}={value}" for name, value in fields.items()]
        program, digits = _REPOSITORY / "tools" / "train.py", _REPOSITORY / "configs" / "digits.py"
        return [str(program), f"--config={digits}", f"--run_dir={run_dir}", *config, *flags]

    def start(self, run_dir, *flags, **overrides):
        """Starts the process; returns the `Program`."""
        return Program(*self.command(run_dir, *flags, **overrides))

    def __call__(self, run_dir, *flags, **overrides):
        """Runs to the end; returns (exit status, what was printed)."""
        return run(*self.command(run_dir, *flags, **overrides))

    @staticmethod
    def checkpoint(run_dir, step):
        """{name: array} of everything in a checkpoint."""
        with plain_path(run_dir / "checkpoints" / f"step_{step:08d}") as folder:
            reader = tf.train.load_checkpoint(str(folder / "state"))
            names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
            return {name: reader.get_tensor(name) for name in names}

    def assert_same_checkpoint(self, one, other, step):
        """Two runs have the same bits at a step."""
        expected, received = self.checkpoint(one, step), self.checkpoint(other, step)
        assert set(expected) == set(received)
        for name, value in expected.items():
            np.testing.assert_array_equal(received[name], value, err_msg=name)


@pytest.fixture(scope="session")
def tiny_run():
    """`TinyRun`."""
    return TinyRun()


@pytest.fixture
def grid_cells():
    """Function that takes the path of a grid and its columns and returns its images, as they were before enlarging."""

    def cells(path, columns, size=16, gap=2):
        with PIL.Image.open(path) as file:
            pixels = np.pad(np.asarray(file), [(0, gap), (0, gap)])
        step = pixels.shape[1] // columns
        scale = (step - gap) // size
        pixels = pixels.reshape(-1, step, columns, step).transpose(0, 2, 1, 3)
        return pixels[:, :, : step - gap : scale, : step - gap : scale]  # [rows, columns, size, size]

    return cells
