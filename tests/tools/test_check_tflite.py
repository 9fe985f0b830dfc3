"""tools/check_tflite.py: verdict and exit status for good, wrong, damaged and foreign files, and on lesser machines."""

import importlib.metadata

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite.export import export_tflite
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from nvae_tf.runs import load as runs_load
from nvae_tf.runs.provenance import provenance
from tests.export.tflite.tiny_tflite import SHAPES, convert, naive

_LINT, _GPU, _KERAS, _HALF = 2, 4, 8, 16


@pytest.fixture(scope="module")
def exported(digits_run, tmp_path_factory):
    """Folder with the exported run of digits, its last two groups at their prior's mean; with the encoder."""
    folder = tmp_path_factory.mktemp("exported") / "tflite"
    nvae = runs_load.load_run(digits_run)
    export_tflite(nvae, folder, provenance(digits_run, nvae), num_groups=1, encoder=True)
    return folder


@pytest.fixture
def check(program, capsys, monkeypatch):
    """Function from a file and flags to (exit status, {part: its lines})."""
    monkeypatch.delenv("NVAE_REQUIRE_SHARED", raising=False)

    def run(path, *flags):
        module = program("check_tflite", "--num=2", "--num_audit=2", *flags)
        with pytest.raises(SystemExit) as end:
            module.main([str(path)])
        lines, parts = capsys.readouterr().out.splitlines(), {}
        for line in lines:
            if line[0] != " ":
                name = line.split()[0]
                parts[name] = ""
            parts[name] += line + "\n"
        assert list(parts) == ["lint", "gpu", "keras", "half"]
        return end.value.code, parts

    return run


@pytest.mark.parametrize("name", ["decoder_float32", "decoder_float16", "encoder_float32"])
def test_good(check, exported, digits_run, name):
    """All four parts pass; --verbose shows the error of every output and the largest number of every tensor."""
    path = exported / f"{name}.tflite"
    status, parts = check(path, f"--run_dir={digits_run}", "--require_all", "--verbose")
    assert {part.split()[1] for part in parts.values()} == {"PASS"}, parts
    assert status == 0
    assert parts["gpu"].startswith("gpu    PASS      every op accelerated; ")
    assert f"off Keras (tolerance {'5e-03' if 'float16' in name else '1e-05'})" in parts["keras"]
    graph = TFLiteGraph(path.read_bytes())
    assert len(parts["gpu"].splitlines()) == 1 + len(graph.outputs)
    assert len(parts["half"].splitlines()) > len(graph.operators)


def test_reference(check, exported, monkeypatch, tmp_path):
    """Golden numbers beside the file; without Vulkan the gpu part is not shown, a failure if all parts are required."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    for name, flags, expected in (("decoder", [], 0), ("encoder", ["--require_all"], _GPU)):
        path = exported / f"{name}_float32.tflite"
        status, parts = check(path, f"--reference={exported / 'decoder.json'}", *flags)
        assert status == expected and parts["keras"].split()[1] == "PASS"
        assert parts["gpu"].startswith("gpu    NOT SHOWN expected a Vulkan device. Received: none that ")


def test_other_weights(check, exported, digits_run, tmp_path):
    """A file that runs but is not from this run: one kernel is larger by a thousandth."""
    graph = TFLiteGraph((exported / "decoder_float32.tflite").read_bytes())
    kernel = graph.named_operators("CONV_2D")[0].inputs[1]
    data = graph.model.buffers[graph.subgraph.tensors[kernel].buffer]
    data.data = (graph.constant(kernel) * np.float32(1.001)).ravel().view(np.uint8)
    path = tmp_path / "other.tflite"
    path.write_bytes(graph.pack())
    status, parts = check(path, f"--run_dir={digits_run}")
    assert status == _KERAS
    assert "likelihood_params: largest" in parts["keras"]


def test_the_flags_of_the_export_choose_the_model(program, exported, digits_run, monkeypatch):
    asked = []

    def load_run(*arguments):
        asked.append(arguments)
        raise ValueError("none such")

    monkeypatch.setattr(runs_load, "load_run", load_run)
    module = program("check_tflite", f"--run_dir={digits_run}", "--step=best", "--noema", "--bn_temperature=0.7")
    with pytest.raises(ValueError, match="none such"):
        module.main([str(exported / "decoder_float32.tflite")])
    assert asked == [(str(digits_run), "best", False, 0.7)]


def test_other_model(check, digits_run, tmp_path):
    """Inputs that the run's model does not have."""
    path = tmp_path / "other.tflite"
    shapes = {"noise_00": [1, 5, 5, 2], "temperature": [1]}
    path.write_bytes(convert(lambda noise_00, temperature: noise_00 * temperature, **shapes))
    status, parts = check(path, f"--run_dir={digits_run}")
    assert status == _KERAS
    assert "noise_00: expected (1, 4, 4, 2), as in the run's model. Received: (1, 5, 5, 2)" in parts["keras"]


def test_naive(check, tmp_path):
    """The negative control: the same decoder written with the obvious idioms."""
    path = tmp_path / "naive.tflite"
    path.write_bytes(convert(naive, **SHAPES))
    status, parts = check(path)
    assert status & (_LINT | _GPU) == _LINT | _GPU
    assert parts["lint"].startswith("lint   FAIL") and "Received: ARG_MAX; keep it out of the graph" in parts["lint"]
    assert parts["gpu"].startswith("gpu    FAIL      not taken by the delegate: ")
    assert parts["keras"] == "keras  NOT SHOWN expected --run_dir or --reference. Received: neither\n"


def test_half_precision(check, tmp_path):
    """Correct everywhere, but not in fp16."""
    path = tmp_path / "exp.tflite"
    path.write_bytes(convert(lambda x: {"y": tf.exp(5.0 * x)}, x=[1, 8, 8, 2]))
    status, parts = check(path)
    assert status == _HALF
    assert "AT RISK: EXP: y: " in parts["half"]


def test_foreign(check, tmp_path):
    """A classifier: any batch, and a label of int64."""
    kernel = tf.random.stateless_normal([16, 3], [0, 0])
    path = tmp_path / "classifier.tflite"
    path.write_bytes(convert(lambda x: {"label": tf.argmax(tf.reshape(x, [-1, 16]) @ kernel, -1)}, x=[None, 4, 4]))
    status, parts = check(path)
    assert status == _LINT | _GPU | _HALF
    assert "dynamic shape: x: expected sizes that the file fixes. Received: [-1, 4, 4]" in parts["lint"]
    assert "x: expected FLOAT32 of fixed shape" in parts["gpu"]


def test_damaged(check, tmp_path):
    path = tmp_path / "damaged.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3")
    status, parts = check(path)
    assert status == _LINT and "expected a whole TFLite file" in parts["lint"]
    assert parts["gpu"] == "gpu    NOT SHOWN the file cannot be read\n"
    assert check(path, "--require_all")[0] == _LINT | _GPU | _KERAS | _HALF


def test_no_runtime(check, exported, monkeypatch):
    """Only the lint is shown."""

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, parts = check(exported / "decoder_float32.tflite", f"--reference={exported / 'decoder.json'}")
    assert status == 0
    for part in ("gpu", "keras", "half"):
        assert "NOT SHOWN exported files are checked with ai-edge-litert: pip install" in parts[part]


def test_wrong_use(program, tmp_path, exported, digits_run):
    """An error before long work begins."""
    module = program("check_tflite")
    for arguments in ([], ["none.tflite"]):
        with pytest.raises(module.app.UsageError, match="expected one existing FILE"):
            module.main(arguments)
    with pytest.raises(module.flags.IllegalFlagValueError, match="expected a run folder with config.json"):
        program("check_tflite", f"--run_dir={tmp_path}")
    with pytest.raises(module.flags.IllegalFlagValueError, match="At most one of"):
        program("check_tflite", f"--run_dir={digits_run}", f"--reference={exported / 'decoder.json'}")
