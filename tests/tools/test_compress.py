import numpy as np
import PIL.Image
import pytest
from absl import app, flags

from nvae_tf.compression.levels import full_scale, to_levels
from nvae_tf.runs.compression import RunCoder
from nvae_tf.runs.compression_images import read_images
from tests import tiny

_COLOUR = {"image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """.npy file of black and white images, [5, 16, 16]."""
    path = tmp_path_factory.mktemp("digits") / "digits.npy"
    np.save(path, np.random.default_rng(0).integers(2, size=(5, 16, 16)).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def coder(digits_run):
    """`RunCoder` of the tiny digits model, with the flags' defaults. Shared: tests must not change it."""
    return RunCoder(digits_run, None, True)


@pytest.fixture
def loaded_once(coder, monkeypatch):
    """What loads the model returns `coder`, whose networks are traced once for each setting."""

    def load(*arguments):
        assert (str(arguments[0]), *arguments[1:]) == coder.arguments
        return coder

    monkeypatch.setattr("nvae_tf.runs.compression.RunCoder", load)


def _run(program, command, **values):
    program("compress", *(f"--{name}={value}" for name, value in values.items())).main([command])


def test_there_and_back(loaded_once, program, digits_run, digits, tmp_path, capsys):
    there, back = tmp_path / "x.nvz", tmp_path / "x.npy"
    _run(program, "compress", run_dir=digits_run, input=digits, out=there, chunk_images=3, verify=False)
    _run(program, "list", input=there)
    _run(program, "decompress", run_dir=digits_run, input=there, out=back)
    np.testing.assert_array_equal(np.load(back), np.load(digits))
    output = capsys.readouterr().out
    assert f"written: {there}, {there.stat().st_size} bytes" in output
    assert f"written: {back}, uint8 [5, 16, 16]" in output
    assert "     0             0-2" in output and "     1             3-4" in output


def test_report_of_a_data_set(loaded_once, program, digits_run, tmp_path, capsys):
    out = tmp_path / "x.nvz"
    _run(program, "report", run_dir=digits_run, dataset="digits", max_images=20, chunk_images=10, out=out)
    output = capsys.readouterr().out
    table = {line[:36].strip(): line[36:].split() for line in output.splitlines()}
    assert int(table["this program"][0]) == out.stat().st_size
    parts = ("NELBO", "grid of the latents, and its sample", "precision of the coder", "start-up bits of the chunks")
    bits = [float(table[name][-2]) for name in (*parts, "header and checksums")]
    assert sum(bits) == pytest.approx(8 * out.stat().st_size / 20, abs=0.01)
    assert {"PNG, a file for each", "PNG, one picture", "WebP, one picture"} <= set(table)
    # Of random weights: with PNG, a digit takes 80 bytes or so, and nearly nothing of the size is for pixels.
    assert 20 * 60 < int(table["PNG, a file for each"][0]) < 20 * 200
    assert int(table["PNG, one picture"][0]) < int(table["PNG, a file for each"][0])


def test_pictures_of_a_folder(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(3, 16, 16, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        PIL.Image.fromarray(image).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    found = read_images(tmp_path, tiny.model_config(**_COLOUR))
    np.testing.assert_array_equal(found, images[[0, 2, 1]])
    PIL.Image.fromarray(images[0, 1:]).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"c.png: expected an image of \[16, 16, 3\]. Received: \[15, 16, 3\]"):
        read_images(tmp_path, tiny.model_config(**_COLOUR))
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="c.png: expected a PNG, JPEG, WebP or BMP image"):
        read_images(tmp_path, tiny.model_config(**_COLOUR))


@pytest.mark.parametrize(
    ("fields", "values", "scale"),
    [
        ({}, [0, 1], 1),
        ({}, [0, 255], 255),
        (_COLOUR, [0, 3, 255], 1),
        (_COLOUR | {"bit_depth": 5}, [0, 31, 7], 1),
        (_COLOUR | {"bit_depth": 5}, [0, 248, 8], 8),
    ],
    ids=range(5),
)
def test_levels_of_pixels(fields, values, scale):
    config = tiny.model_config(**fields)
    pixels = np.resize(np.array(values, np.uint8), (2, 16, 16, config.image_channels))
    levels, found = to_levels(pixels, config, "x.npy")
    assert found == scale
    np.testing.assert_array_equal(levels * np.uint8(scale), pixels)
    assert full_scale(config) in (scale, 255, 8, 1)
    with pytest.raises(ValueError, match="x.npy: expected .*--quantize makes such images.* Received: a value of 100"):
        to_levels(np.where(pixels > 1, np.uint8(100), pixels + np.uint8(100)), tiny.model_config(), "x.npy")


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((2, 16, 15), np.uint8), r"uint8 \[2, 16, 15\]"),
        (np.zeros((0, 16, 16), np.uint8), r"uint8 \[0, 16, 16\]"),
        (np.zeros((2, 16, 16), np.float32), r"float32 \[2, 16, 16\]"),
        (np.zeros((), np.uint8), r"uint8 \[\]"),
    ],
    ids=range(4),
)
def test_other_arrays_are_refused(images, received, tmp_path):
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(ValueError, match=rf"x.npy: expected uint8 \[N, 16, 16\] with N >= 1.* Received: {received}"):
        read_images(tmp_path / "x.npy", tiny.model_config())


def test_a_file_of_no_array_is_refused(tmp_path):
    for content in (b"", b"text", b"\x93NUMPY\x01\x00"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(ValueError, match="x.npy: expected a .npy file"):
            read_images(tmp_path / "x.npy", tiny.model_config())
    np.save(tmp_path / "x.npy", np.array([None]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", np.zeros((2, 16, 16), np.uint8))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=f"{name}: expected a .npy file") as caught:
            read_images(tmp_path / name, tiny.model_config())
        assert "allow_pickle" not in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder: expected PNG, JPEG, WebP or BMP files. Received: none"):
        read_images(tmp_path / "folder", tiny.model_config())


def test_wrong_commands_are_refused(program, digits_run, digits, tmp_path):
    for words in ([], ["pack"], ["list", "list"]):
        with pytest.raises(app.UsageError, match="expected one of compress, decompress, list, report"):
            program("compress").main(words)
    run, out = {"run_dir": digits_run}, {"out": tmp_path / "x.nvz"}
    for command, values, message in (
        ("compress", out, "--run_dir: expected with compress"),
        ("compress", run, "--out: expected with compress"),
        ("list", {}, "--input: expected with list"),
        ("report", run, "expected --input or --dataset. Received: neither"),
        ("report", run | {"input": digits, "dataset": "digits"}, "expected --input or --dataset. Received: both"),
        ("decompress", run | out | {"input": digits}, "--out: expected a name ending in .npy. Received: .*x.nvz"),
    ):
        with pytest.raises(app.UsageError, match=message):
            _run(program, command, **values)
    with pytest.raises(flags.IllegalFlagValueError, match="--chunks=.*-1.*: expected whole numbers from 0"):
        program("compress", "--chunks=-1")
    with pytest.raises(ValueError, match="digits.npy: expected a .nvz file"):
        _run(program, "list", input=digits)
    for command, values in (("list", {}), ("decompress", run | {"out": tmp_path / "x.npy"})):
        with pytest.raises(OSError, match=f"{tmp_path}: expected a file. Received: a folder"):
            _run(program, command, input=tmp_path, **values)


def test_grey_images_are_drawn_black_and_white_on_request(program, digits_run, tmp_path, capsys):
    grey = np.full((4, 16, 16), 128, np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    values = {"run_dir": digits_run, "input": tmp_path / "grey.npy", "out": tmp_path / "x.nvz"}
    with pytest.raises(ValueError, match="grey.npy: expected black and white images"):
        _run(program, "compress", **values)
    tool = program("compress", *(f"--{name}={value}" for name, value in values.items()), "--quantize")
    from nvae_tf.runs.starts import run_config

    levels, shape, scale = tool.read_levels(run_config(digits_run))
    assert shape == (4, 16, 16) and scale == 255
    assert set(np.unique(levels)) == {0, 1} and 0.4 < levels.mean() < 0.6
    assert "4 images, as evaluate.py sees them" in capsys.readouterr().out
