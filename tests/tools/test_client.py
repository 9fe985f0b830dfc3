import json
import pathlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from absl import app
from absl.flags import IllegalFlagValueError
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from nvae_tf.serving.protocol import ServerError

_IMAGES = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), np.uint8)


@pytest.fixture(params=["grpc", "rest"])
def run(request, served, program, tmp_path, monkeypatch):
    """Function that runs a command of the program in a folder with a.png, b.png and c.png."""
    monkeypatch.chdir(tmp_path)
    for name, image in zip("abc", _IMAGES, strict=True):
        PIL.Image.fromarray(image[..., 0]).save(f"{name}.png")
    server = ["--host=127.0.0.1", f"--port={served[1][request.param]}", f"--protocol={request.param}", "--model=toy"]
    return lambda command, *flags: program("client", *server, *flags).main([command])


def test_samples_of_the_seeds(run, served, grid_cells, capsys):
    run("sample", "--num=4", "--seed=7", "--temperature=0.5", "--batch_size=3", "--out=s.png", "--images_dir=s")
    assert capsys.readouterr().out.splitlines() == ["written: s.png", "written: 4 images in s"]
    inputs = {"seed": np.arange(7, 11), "temperature": np.full(4, 0.5, np.float32)}
    expected = served[0].predict("sample", inputs)["image"]
    np.testing.assert_array_equal(grid_cells("s.png", 2, 6).reshape(-1, 6, 6, 1), expected)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open("s/000003.png"))[..., None], expected[3])


def test_reconstructions(run, served, grid_cells):
    run("reconstruct", "--images=a.png,b.png,c.png,a.png", "--batch_size=2", "--out=r.png")
    files = np.array([pathlib.Path(f"{name}.png").read_bytes() for name in "abca"], object)
    inputs = {"image_bytes": files, "seed": np.arange(4), "temperature": np.ones(4, np.float32)}
    np.testing.assert_array_equal(
        grid_cells("r.png", 2, 6).reshape(-1, 6, 6, 1), served[0].predict("reconstruct", inputs)["image"]
    )


@pytest.mark.parametrize("ends", ["--images=a.png,b.png", "--seeds=-1,2"])
def test_interpolations(run, served, grid_cells, ends):
    run("interpolate", ends, "--frames=5", "--batch_size=2", "--out=w.png")
    frames = grid_cells("w.png", 5, 6).reshape(-1, 6, 6, 1)
    inputs = {"seed": np.array([-1, 2]), "temperature": np.ones(2, np.float32)}
    expected = _IMAGES[:2] if "images" in ends else served[0].predict("sample", inputs)["image"]
    np.testing.assert_array_equal(frames[[0, -1]], expected)
    np.testing.assert_allclose(frames[2], expected.mean(0), atol=0.5)


@pytest.mark.parametrize("out", [[], ["--out=scores.jsonl"]], ids=["printed", "file"])
def test_scores(run, served, capsys, out):
    run("score", "--images=a.png,b.png,c.png", "--seed=2", "--batch_size=2", *out)
    text = pathlib.Path("scores.jsonl").read_text() if out else capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    expected = served[0].predict("score", {"image": _IMAGES, "seed": np.arange(2, 5)})
    assert [line["file"] for line in lines] == ["a.png", "b.png", "c.png"]
    for name, values in expected.items():
        np.testing.assert_array_equal(np.array([line[name] for line in lines], np.float32), values)


def test_latents(run, served, tmp_path):
    run("encode", "--images=a.png,b.png,c.png", "--batch_size=2", "--out=l.npz")
    with np.load("l.npz") as file:
        assert file["files"].tolist() == ["a.png", "b.png", "c.png"]
        expected = served[0].predict("encode_pixels", {"image": _IMAGES})
        np.testing.assert_array_equal(file["kl_per_group"], expected["kl_per_group"])
    assert {path.name for path in tmp_path.glob("*l.npz")} == {"l.npz"}


def test_status(run, capsys):
    run("status")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "version 3: AVAILABLE" and second.startswith("version 3 answers: decode, encode, ")


def test_status_while_no_version_is_available(run, served, monkeypatch, capsys):
    def metadata(*which, **more):
        raise tf.errors.NotFoundError(None, None, "not yet")

    monkeypatch.setattr(served[0], "state", ModelVersionStatus.LOADING)
    monkeypatch.setattr(served[0], "metadata", metadata)
    run("status")
    assert capsys.readouterr().out == "version 3: LOADING\n"


def test_messages_over_the_limit(run, served, monkeypatch):
    large = {"image": np.zeros((1, 3_000_000), np.uint8)}
    monkeypatch.setattr(served[0], "change", lambda name, outputs: large)
    with pytest.raises(ServerError, match=r"RESOURCE_EXHAUSTED \(.*--max_message_mb"):
        run("sample", "--num=1", "--out=s.png", "--max_message_mb=1")


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("status", ["--model=other"], "NOT_FOUND .* Servable not found"),
        ("status", ["--version=4"], "model toy version 4: NOT_FOUND"),
        ("sample", ["--out=s.png", "--label=canary"], "model toy label canary: NOT_FOUND"),
        ("score", [], "--images: expected files separated by commas. Received: none"),
        ("score", ["--images=wide.png"], "--images: wide.png: expected 6 x 6 pixels. Received: 7 x 6"),
        ("encode", ["--images=missing.png", "--out=l.npz"], "missing.png"),
        ("encode", ["--images=a.png,text.png", "--out=l.npz"], "--images: text.png: expected a complete PNG or JPEG"),
        ("reconstruct", ["--images=a.png,text.png", "--out=r.png"], "--images: text.png: expected a complete PNG"),
        ("interpolate", ["--images=a.png,text.png", "--out=w.png"], "--images: text.png: expected a complete PNG"),
        ("sample", [f"--seed={2**63 - 2}", "--num=4", "--out=s.png"], f"seed: expected integers .*: {2**63}"),
        ("interpolate", [f"--seeds=1,{2**64}", "--out=w.png"], f"seed_b: expected integers from .*: {2**64}"),
        (
            "interpolate",
            ["--images=a.png", "--out=w.png"],
            r"--images, --seeds: expected two .* Received: \['a.png'\] and None",
        ),
        ("interpolate", ["--seeds=1,2,3", "--out=w.png"], r"expected two .* Received: None and \['1', '2', '3'\]"),
        ("interpolate", ["--seeds=1,2", "--images=a.png,b.png", "--out=w.png"], "expected two of either"),
        ("status", ["--tls_root_certs=a.png"], "--tls: expected with --tls_root_certs"),
        ("status", ["--tls", "--tls_root_certs=none.pem"], "none.pem"),
    ],
)
def test_what_is_wrong_is_named(run, command, flags, message):
    PIL.Image.new("L", (7, 6)).save("wide.png")
    pathlib.Path("text.png").write_text("text")
    with pytest.raises((ServerError, ValueError, OSError), match=message):
        run(command, *flags)


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("draw", [], r"expected one of status, sample, .* Received: \['draw'\]"),
        ("sample", [], "--out: expected a name ending in .png in an existing folder. Received: None"),
        ("encode", ["--out=l.png"], "--out: expected a name ending in .npz .* Received: l.png"),
        ("score", ["--out=none/s.jsonl"], "--out: expected a name ending in .jsonl in an existing folder"),
    ],
)
def test_commands_and_files_are_checked_first(run, command, flags, message):
    with pytest.raises(app.UsageError, match=message):
        run(command, *flags)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--seeds=1,x", "expected whole numbers separated by a comma"),
        ("--temperature=0", "expected a positive, finite number"),
        ("--timeout=inf", "expected a positive number"),
        ("--host=http://localhost", "expected a name or address, without http:// or a port"),
        ("--host=localhost:8500", "expected a name or address, without http:// or a port"),
    ],
)
def test_wrong_flags(program, flag, message):
    with pytest.raises(IllegalFlagValueError, match=message):
        program("client", flag)
