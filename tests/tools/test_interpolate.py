import dataclasses
import os

import numpy as np
import PIL.Image
import pytest

from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.latents import decode_noise, encode, interpolate
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.runs.data import load_images
from nvae_tf.runs.starts import Starts, chosen_images


def test_writes_a_strip_and_an_animation(digits_run, program, tmp_path, capsys):
    out = tmp_path / "way.png"
    flags = (f"--run_dir={digits_run}", "--images=3,17,20,3", "--frames=5", "--batch_size=3", f"--out={out}")
    program("interpolate", *flags).main()
    with PIL.Image.open(out) as file:
        assert file.size == (5 * 114 - 2, 2 * 114 - 2)  # a pixel is 7 x 7
    with PIL.Image.open(tmp_path / "way.gif") as file:
        assert file.n_frames == 8 and file.size == (2 * 258 - 2, 256)  # there and back, the ends shown once
    assert f"written: {out}" in capsys.readouterr().out and sorted(os.listdir(tmp_path)) == ["way.gif", "way.png"]


def test_the_ends_are_the_reconstructions(digits_run, model, program):
    flags = (f"--run_dir={digits_run}", "--images=3,17", "--seed=4")
    tool = program("interpolate", *flags)
    pictures = interpolate(model, *Starts(model.config, tool.FLAGS).noise(model), 5, batch_size=2)
    assert pictures.shape == (5, 16, 16, 1)
    images = load_images(model.config, None, "test", 18)
    images = next(iter(eval_batches(images, model.config.data, 8, 18, 4))).numpy()[[3, 17]]
    expected, _ = decode_noise(model, encode(model, images, [3, 17], seed=4).noise)
    np.testing.assert_allclose(pictures[[0, -1]], expected, atol=1e-4)
    steps = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0 and steps.max() < np.abs(pictures[0] - pictures[-1]).mean()


def test_seeds_give_the_samples_of_sample_py(digits_run, model, program, tmp_path):
    out = tmp_path / "way.png"
    flags = (f"--run_dir={digits_run}", "--seeds=1,2", "--frames=2", "--temperature=0.7", f"--out={out}")
    program("interpolate", *flags, "--animation=none").main()
    with PIL.Image.open(out) as file:
        ends = np.asarray(file)
    assert os.listdir(tmp_path) == ["way.png"]
    for seed, end in ((1, ends[::16, :256:16]), (2, ends[::16, 258::16])):
        np.testing.assert_allclose(end, 255 * sample_images(model, 1, 0.7, seed=seed)[0, ..., 0], atol=0.6)


def test_an_image_that_is_not_there_is_named_before_the_model_is_built(digits_run, model, program, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.load_folded", None)
    tool = program("interpolate", f"--run_dir={digits_run}", "--images=3,99999")
    count = len(load_images(model.config, None, "test"))
    with pytest.raises(ValueError, match=f"--images: expected numbers below {count}, the number of test images"):
        tool.main()


def test_damaged_images_leave_the_numbers_of_the_others_as_they_are(model, monkeypatch):
    expected = chosen_images(model.config, None, "test", [1, 5], seed=0)

    def damaged(*arguments):
        return dataclasses.replace(load_images(*arguments), damaged=np.array([3]))

    monkeypatch.setattr("nvae_tf.runs.starts.load_images", damaged)
    np.testing.assert_array_equal(chosen_images(model.config, None, "test", [1, 5], seed=0), expected)
    with pytest.raises(ValueError, match="--images: expected images that can be read. Received: 3, which is damaged"):
        chosen_images(model.config, None, "test", [1, 3, 5], seed=0)
