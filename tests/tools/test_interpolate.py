import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.latents import decode_noise, posterior_noise
from nvae_tf.evaluation.sampling import evaluated_kernels, sample_images
from nvae_tf.runs.data import load_images
from nvae_tf.runs.load import load_run
from nvae_tf.runs.starts import Starts, chosen_images

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _interpolate(*flags):
    command = [sys.executable, str(REPOSITORY / "tools" / "interpolate.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(digits_run):
    return load_run(digits_run)


def test_writes_a_strip_and_an_animation(digits_run, program, tmp_path, capsys):
    out = tmp_path / "way.png"
    flags = (f"--run_dir={digits_run}", "--images=3,17,20,3", "--frames=5", "--batch_size=3", f"--out={out}")
    program("interpolate", *flags).main(["interpolate"])
    with PIL.Image.open(out) as file:
        assert file.size == (5 * 18 - 2, 2 * 18 - 2)
    with PIL.Image.open(tmp_path / "way.gif") as file:
        assert file.n_frames == 8 and file.size == (2 * 18 - 2, 16)  # there and back, the ends shown once
    assert f"written: {out}" in capsys.readouterr().out and sorted(os.listdir(tmp_path)) == ["way.gif", "way.png"]


def test_the_ends_are_the_reconstructions(digits_run, model, program):
    flags = (f"--run_dir={digits_run}", "--images=3,17", "--frames=5", "--batch_size=2", "--seed=4")
    tool = program("interpolate", *flags)
    kernels = evaluated_kernels(model)
    noise = Starts(model.config, tool.FLAGS).noise(model, kernels)
    pictures = tool.pair_pictures(model, *noise, kernels)
    assert pictures.shape == (5, 16, 16, 1)
    images = load_images(model.config, None, "test", 18)
    images = next(iter(eval_batches(images, model.config.data, 8, 18, 4))).numpy()[[3, 17]]
    expected, _ = decode_noise(model, posterior_noise(model, images, [3, 17], seed=4))
    np.testing.assert_allclose(pictures[[0, -1]], expected, atol=1e-4)
    steps = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0 and steps.max() < np.abs(pictures[0] - pictures[-1]).mean()


def test_seeds_are_the_samples_of_the_sampler(digits_run, model, program, tmp_path):
    out = tmp_path / "way.png"
    flags = (f"--run_dir={digits_run}", "--seeds=1,2", "--frames=2", "--temperature=0.7", f"--out={out}")
    program("interpolate", *flags, "--animation=none").main(["interpolate"])
    with PIL.Image.open(out) as file:
        ends = np.asarray(file)
    assert os.listdir(tmp_path) == ["way.png"]
    for seed, end in ((1, ends[:, :16]), (2, ends[:, 18:])):
        np.testing.assert_allclose(end, 255 * sample_images(model, 1, 0.7, seed=seed)[0, ..., 0], atol=0.6)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--images=3"], "--images=['3']: expected pairs: an even number of them"),
        (["--seeds=1,2,3"], "--seeds=['1', '2', '3']: expected pairs: an even number of them"),
        (["--images=3,x"], "--images=['3', 'x']: expected whole numbers from 0 on with commas between them"),
        (["--images=3,-1"], "expected whole numbers from 0 on"),
        (["--images=3,4", "--seeds=1,2"], "Exactly one of (images, seeds)"),
        ([], "Exactly one of (images, seeds)"),
        (["--images=3,4", "--frames=1"], "--frames=1"),
        (["--images=3,4", "--temperature=-1"], "--temperature=-1.0: expected a positive, finite number"),
        (["--images=3,4", "--animation=mp4"], "--animation=mp4"),
    ],
)
def test_wrong_flags_are_named(digits_run, flags, message):
    done = _interpolate(f"--run_dir={digits_run}", *flags)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


def test_an_image_that_is_not_there_is_named_before_the_model_is_built(digits_run, program, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.load_run", None)
    tool = program("interpolate", f"--run_dir={digits_run}", "--images=3,99999")
    count = len(load_images(load_run(digits_run).config, None, "test"))
    message = f"interpolate.py: --images: expected numbers below {count}, the number of test images. Received: 99999"
    with pytest.raises(SystemExit) as error:
        tool.main(["interpolate"])
    assert str(error.value) == message


def test_damaged_images_leave_the_numbers_of_the_others_as_they_are(model, monkeypatch):
    expected = chosen_images(model.config, None, "test", [1, 5], seed=0)

    def damaged(*arguments):
        images = load_images(*arguments)
        images.damage.limit = 1
        images.damage.add(3, "number 3")
        return images

    monkeypatch.setattr("nvae_tf.runs.starts.load_images", damaged)
    np.testing.assert_array_equal(chosen_images(model.config, None, "test", [1, 5], seed=0), expected)
    with pytest.raises(ValueError, match="--images: expected images that can be read. Received: 3, which is damaged"):
        chosen_images(model.config, None, "test", [1, 3, 5], seed=0)
