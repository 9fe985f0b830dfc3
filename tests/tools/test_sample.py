import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, ModelConfig
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.load import load_run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _sample(*flags):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "tools" / "sample.py"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run folder of a tiny model of 8 x 8 images with one pixel of padding."""
    model = ModelConfig(
        image_height=8,
        image_width=8,
        padding=1,
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
    folder = RunFolder(tmp_path_factory.mktemp("run")).create(Config(model=model))
    folder.save(1, {"model": model_variables(NVAE(model))})
    return folder.path


def test_writes_a_grid_without_padding(program, run_dir):
    program("sample", f"--run_dir={run_dir}", "--num=5", "--temperature=0.5", "--pixels=sample").main([])
    with PIL.Image.open(run_dir / "samples.png") as image:
        assert image.size == (3 * 6 + 2 * 2, 2 * 6 + 2) and image.mode == "L"
        assert {value for _, value in image.getcolors()} == {0, 128, 255}  # 128: the lines between images


def test_writes_each_image_and_an_array_which_do_not_depend_on_the_batch(program, run_dir, tmp_path):
    files = (
        f"--images_dir={tmp_path / 'images'}",
        f"--npz={tmp_path / 'images.npz'}",
        f"--out={tmp_path / 'grid.png'}",
    )
    flags = ("--num=5", "--temperature=0.5,1.0", "--batch_size=2", *files)
    program("sample", f"--run_dir={run_dir}", *flags).main([])
    with np.load(tmp_path / "images.npz") as file:
        images = file["images"]
    assert images.shape == (5, 6, 6, 1) and images.dtype == np.uint8
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == [f"{index:06}.png" for index in range(5)]
    for name, image in zip(names, images, strict=True):
        with PIL.Image.open(tmp_path / "images" / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image[..., 0])
    expected = sample_images(load_run(run_dir), 5, [0.5, 1.0], batch_size=5)
    np.testing.assert_allclose(images, 255 * expected, atol=0.51)


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--run_dir=nowhere", "--run_dir=nowhere: expected a run folder with config.json"),
        ("--temperature=0", "--temperature=['0']: expected a positive, finite number"),
        ("--temperature=nan", "--temperature=['nan']: expected a positive, finite number"),
        ("--temperature=0.5,warm", "--temperature=['0.5', 'warm']: expected a positive, finite number"),
        ("--npz=a.png", "--npz=a.png: expected a name ending in .npz in an existing folder"),
        ("--out=nowhere/a.png", "--out=nowhere/a.png: expected a name ending in .png in an existing folder"),
        ("--out=a.jpg", "--out=a.jpg"),
        ("--num=0", "--num=0"),
        ("--pixels=mode", "--pixels=mode"),
    ],
)
def test_wrong_flags_are_named(run_dir, flag, message):
    done = _sample(f"--run_dir={run_dir}", flag)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


def test_temperatures_that_are_not_those_of_the_model(program, run_dir):
    with pytest.raises(SystemExit, match=r"temperature: expected one, 1 \(one for each scale\) or 2 "):
        program("sample", f"--run_dir={run_dir}", "--temperature=1,1,1").main([])


def test_run_dir_is_required():
    done = _sample()
    assert done.returncode != 0 and "--run_dir" in done.stderr and "Traceback" not in done.stderr
