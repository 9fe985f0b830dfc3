import os
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from nvae_tf.evaluation.sampling import sample_images


def test_writes_a_grid(program, digits_run, tmp_path):
    run_dir = shutil.copytree(digits_run, tmp_path / "run")
    program("sample", f"--run_dir={run_dir}", "--num=5", "--temperature=0.5", "--pixels=sample", "--scale=1").main()
    with PIL.Image.open(run_dir / "samples.png") as image:
        assert image.size == (3 * 18 - 2, 2 * 18 - 2) and image.mode == "L"
        assert {value for _, value in image.getcolors()} == {0, 128, 255}  # 128: the lines between images


def test_the_model_that_ships_is_used_without_a_run_and_never_written_into(program, tmp_path, monkeypatch, capsys):
    shipped = pathlib.Path(__file__).parents[2] / "saved_models" / "mnist"
    before = sorted(shipped.rglob("*"))
    monkeypatch.chdir(tmp_path)
    program("sample", "--num=4", "--batch_size=4").main()
    assert f"--run_dir={shipped} --temperature=0.7 --bn_temperature=0.7\n" in capsys.readouterr().out
    with PIL.Image.open("runs/mnist/samples.png") as image:
        assert image.size == (2 * 282 - 2, 2 * 282 - 2)  # 28 pixels, each 10 x 10
    assert sorted(shipped.rglob("*")) == before and os.listdir() == ["runs"]
    interpolate = program("interpolate", "--temperature=1", "--frames=2")
    interpolate.main()  # with a temperature of its own, and seeds 1 and 2
    assert interpolate.FLAGS.temperature == 1.0 and sorted(os.listdir("runs/mnist"))[0] == "interpolation.gif"
    pathlib.Path("runs/mnist/config.json").touch()  # a run of the user, who would take the results for its own
    tool = program("interpolate", f"--run_dir={shipped}")
    assert tool._OUT("a.png") == pathlib.Path("runs/mnist_shipped/a.png")
    monkeypatch.setattr("tools.flags.SHIPPED_RUN", tmp_path / "mnist")
    with pytest.raises(ValueError, match=f"--run_dir: expected a run folder, because {tmp_path}/mnist is not there"):
        program("interpolate").main()


@pytest.mark.parametrize(
    "name, flags, expected",
    [
        ("sample", [], 0.7),
        ("sample", ["--temperature=0.70"], 0.7),
        ("sample", ["--temperature=0.7,0.8"], None),
        ("sample", ["--bn_temperature=0.6"], 0.6),
        ("interpolate", [], 0.7),
        ("interpolate", ["--temperature=1"], None),
        ("interpolate", ["--images=1,2"], None),
    ],
)
def test_the_model_that_ships_is_drawn_from_with_the_batch_norm_of_the_temperature(program, name, flags, expected):
    tool = program(name, *flags)
    tool.use_shipped_run()
    assert tool.FLAGS.bn_temperature == expected


def test_writes_each_image_and_an_array_whatever_the_batch(program, digits_run, model, tmp_path):
    names = {"images_dir": "images", "npz": "images.npz", "out": "grid.png"}
    files = [f"--{flag}={tmp_path / name}" for flag, name in names.items()]
    flags = ("--num=5", "--temperature=0.5,1.0", "--batch_size=2", *files)
    program("sample", f"--run_dir={digits_run}", *flags).main()
    with np.load(tmp_path / "images.npz") as file:
        images = file["images"]
    assert images.shape == (5, 16, 16, 1) and images.dtype == np.uint8
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == [f"{index:06}.png" for index in range(5)]
    for name, image in zip(names, images, strict=True):
        with PIL.Image.open(tmp_path / "images" / name) as file:
            np.testing.assert_array_equal(np.asarray(file), image[..., 0])
    expected = sample_images(model, 5, [0.5, 1.0, 1.0], batch_size=5)
    np.testing.assert_allclose(images, 255 * expected, atol=0.51)


def test_another_number_of_temperatures_is_refused_before_the_model_is_loaded(program, digits_run, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.load_folded", None)
    with pytest.raises(ValueError, match=r"temperature: expected one, 2 \(one for each scale\) or 3 "):
        program("sample", f"--run_dir={digits_run}", "--temperature=1,1,1,1").main()
