"""tools/check_tflite.py: verdict and exit status of good, wrong, damaged and foreign files, and of lesser machines."""

import importlib.metadata
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import nvae_tf
from nvae_tf.export.tflite.check.run import NotAvailable
from nvae_tf.export.tflite.export import export_tflite
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from nvae_tf.runs.provenance import provenance
from tests.export.tflite.tiny_tflite import SHAPES, convert, naive

_LINT, _GPU, _KERAS, _HALF = 2, 4, 8, 16


@pytest.fixture(scope="module")
def exported(digits_run, tmp_path_factory):
    """Folder that the run of digits was exported to, its last two groups at their prior's mean; with the encoder."""
    folder = tmp_path_factory.mktemp("exported") / "tflite"
    nvae = nvae_tf.load_run(digits_run)
    export_tflite(nvae, folder, provenance(digits_run, nvae), num_groups=1, encoder=True)
    return folder


@pytest.fixture
def check(program, capsys, monkeypatch):
    """Function from a file and flags to (exit status, {part: its lines})."""
    monkeypatch.delenv("NVAE_REQUIRE_SHARED", raising=False)

    def run(path, *flags):
        module = program("check_tflite", "--num=2", "--num_audit=2", *flags)
        with pytest.raises(SystemExit) as end:
            module.main(["check_tflite", str(path)])
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
    """All four parts are shown."""
    status, parts = check(exported / f"{name}.tflite", f"--run_dir={digits_run}", "--require_all")
    assert {part.split()[1] for part in parts.values()} == {"PASS"}, parts
    assert status == 0
    assert parts["gpu"].startswith("gpu    PASS      every op accelerated; ")
    assert f"off {digits_run} (tolerance {'5e-03' if 'float16' in name else '1e-05'})" in parts["keras"]


def test_verbose(check, exported):
    """Every output's error, and every tensor's largest number."""
    _, parts = check(exported / "decoder_float32.tflite", "--verbose")
    graph = TFLiteGraph((exported / "decoder_float32.tflite").read_bytes())
    assert len(parts["gpu"].splitlines()) == 1 + len(graph.outputs)
    assert len(parts["half"].splitlines()) > len(graph.operators)
    assert parts["keras"] == "keras  NOT SHOWN expected --run_dir or --reference. Received: neither\n"


def test_reference(check, exported):
    """The golden numbers beside the file."""
    for name in ("decoder", "encoder"):
        status, parts = check(exported / f"{name}_float32.tflite", f"--reference={exported / 'decoder.json'}")
        assert status == 0 and parts["keras"].split()[1] == "PASS"


def test_reference_without_the_encoder(exported, tmp_path):
    """A sidecar of before the encoder's numbers, or of the decoder alone: nothing is shown, nothing fails."""
    from nvae_tf.export.tflite.check.reference import golden_case

    folder = shutil.copytree(exported, tmp_path / "copy")
    path, content = folder / "encoder_float32.tflite", json.loads((folder / "decoder.json").read_text())
    without = {key: value for key, value in content["encoder"].items() if key != "golden"}
    for encoder in (without, None):
        (folder / "decoder.json").write_text(json.dumps({**content, "encoder": encoder}))
        with pytest.raises(NotAvailable, match="expected golden numbers of encode. Received: none"):
            golden_case(folder / "decoder.json", path, TFLiteGraph(path.read_bytes()))


def _with_sums_in_a_list(path):
    content = json.loads(path.read_text())
    return json.dumps({**content, "sha256": list(content["sha256"].values())}).encode()


def test_damaged_reference(exported, tmp_path):
    """Golden numbers that were changed or cut, and a sidecar that is none."""
    from nvae_tf.export.tflite.check.reference import golden_case

    folder = shutil.copytree(exported, tmp_path / "copy")
    path, sidecar, golden = folder / "decoder_float32.tflite", folder / "decoder.json", folder / "golden.bin"
    graph, numbers = TFLiteGraph(path.read_bytes()), golden.read_bytes()
    damages = [
        (golden, numbers[:-4] + bytes(4), "golden.bin: expected SHA-256"),
        (golden, numbers[:40], "expected a sidecar decoder.json with its golden file"),
        (path, path.read_bytes() + bytes(4), "decoder_float32.tflite: expected SHA-256"),
        (sidecar, b'{"format": 1}', r"Received: KeyError\('sha256'\)"),
        (sidecar, b"[", "Received: JSONDecodeError"),
        (sidecar, _with_sums_in_a_list(sidecar), "Received: ValueError"),
    ]
    for file, content, message in damages:
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            golden_case(sidecar, path, graph)
        file.write_bytes(whole)
    golden_case(sidecar, path, graph)


def test_other_weights(check, exported, digits_run, tmp_path):
    """A file that runs well but is not of this run: one kernel is a thousandth larger."""
    graph = TFLiteGraph((exported / "decoder_float32.tflite").read_bytes())
    kernel = next(operator for operator in graph.operators if graph.op_name(operator) == "CONV_2D").inputs[1]
    data = graph.model.buffers[graph.subgraph.tensors[kernel].buffer]
    data.data = (graph.constant(kernel) * np.float32(1.001)).ravel().view(np.uint8)
    path = tmp_path / "other.tflite"
    path.write_bytes(graph.pack())
    status, parts = check(path, f"--run_dir={digits_run}")
    assert status == _KERAS
    assert "likelihood_params: largest" in parts["keras"]


def test_which_model(check, exported, digits_run, monkeypatch):
    """The flags of the export say which weights and statistics the file is compared with."""
    asked = []

    def load_run(*arguments):
        asked.append(arguments)
        raise ValueError("none such")

    monkeypatch.setattr(nvae_tf, "load_run", load_run)
    monkeypatch.setenv("VK_ICD_FILENAMES", "none.json")
    flags = [f"--run_dir={digits_run}", "--step=best", "--noema", "--bn_temperature=0.7"]
    status, parts = check(exported / "decoder_float32.tflite", *flags)
    assert status == _KERAS and "none such" in parts["keras"]
    assert asked == [(str(digits_run), "best", False, 0.7)]


@pytest.mark.parametrize("side", ["received", "expected"])
def test_nan(side):
    """A number that is none, on either side and after a good output, is no agreement."""
    from nvae_tf.export.tflite.check.gate import Status, _agreement

    sides = {name: {"a": np.ones(2), "b": np.ones(2)} for name in ("received", "expected")}
    assert _agreement("keras", **sides, tolerance=1.0, source="Keras").status is Status.PASS
    sides[side]["b"] = np.array([1.0, np.nan])
    part = _agreement("keras", **sides, tolerance=1.0, source="Keras")
    assert part.status is Status.FAIL and part.reason.startswith("b at most inf off Keras")


def test_other_model(check, digits_run, tmp_path):
    """Inputs that the run's model does not have."""
    path = tmp_path / "other.tflite"
    shapes = {"noise_00": [1, 5, 5, 2], "temperature": [1]}
    path.write_bytes(convert(lambda noise_00, temperature: noise_00 * temperature, **shapes))
    status, parts = check(path, f"--run_dir={digits_run}")
    assert status == _KERAS
    expected = (
        "expected an input of shape [1, 4, 4, 2], as of the run's model. Received: an input of shape [1, 5, 5, 2]"
    )
    assert f"noise_00: {expected}" in parts["keras"]


def test_naive(check, tmp_path):
    """The negative control: the same decoder with the idioms that come to mind first."""
    path = tmp_path / "naive.tflite"
    path.write_bytes(convert(naive, **SHAPES))
    status, parts = check(path)
    assert status & (_LINT | _GPU) == _LINT | _GPU
    assert parts["lint"].startswith("lint   FAIL") and "Received: ARG_MAX; keep it out of the graph" in parts["lint"]
    assert parts["gpu"].startswith("gpu    FAIL      not taken by the delegate: ")


def test_half_precision(check, tmp_path):
    """Right everywhere, but not in fp16."""
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


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "a TFLite file"), (b"\x1c\0\0\0TFL3", "a whole TFLite file"), (bytes(range(256)) * 9, "a TFLite file")],
    ids=["empty", "cut", "other"],
)
def test_damaged(check, tmp_path, content, message):
    """No TFLite file, or part of one."""
    path = tmp_path / "damaged.tflite"
    path.write_bytes(content)
    status, parts = check(path)
    assert status == _LINT and f"expected {message}" in parts["lint"]
    assert parts["gpu"] == "gpu    NOT SHOWN the file cannot be read\n"
    assert check(path, "--require_all")[0] == _LINT | _GPU | _KERAS | _HALF


def test_no_driver(check, exported, monkeypatch, tmp_path):
    """Without Vulkan the GPU's part is not shown, which is a failure where all is required."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    path, flag = exported / "decoder_float32.tflite", f"--reference={exported / 'decoder.json'}"
    status, parts = check(path, flag)
    assert status == 0 and parts["gpu"].startswith("gpu    NOT SHOWN expected a Vulkan device. Received: none that ")
    assert check(path, flag, "--require_all")[0] == _GPU
    monkeypatch.setenv("NVAE_REQUIRE_SHARED", "1")
    assert check(path, flag)[0] == _GPU


def test_unknown_runtime(check, exported, monkeypatch):
    """Another version of the runtime shows nothing but the lint."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.0.1")
    path, flag = exported / "decoder_float32.tflite", f"--reference={exported / 'decoder.json'}"
    status, parts = check(path, flag)
    assert status == 0
    for part in ("gpu", "keras", "half"):
        assert "NOT SHOWN expected ai-edge-litert 2.3. Received: 3.0.1; pip install" in parts[part]
    assert check(path, flag, "--require_all")[0] == _GPU | _KERAS | _HALF


def test_wrong_use(program, tmp_path, exported):
    """Status 1 or absl's error, before long work begins."""
    module = program("check_tflite")
    with pytest.raises(SystemExit, match="FILE: expected an existing file. Received: none.tflite"):
        module.main(["check_tflite", "none.tflite"])
    with pytest.raises(module.app.UsageError, match="expected one FILE and flags"):
        module.main(["check_tflite"])
    with pytest.raises(module.flags.IllegalFlagValueError, match="expected a run folder with config.json"):
        program("check_tflite", f"--run_dir={tmp_path}")
    with pytest.raises(module.flags.IllegalFlagValueError, match="At most one of"):
        program("check_tflite", f"--run_dir={tmp_path}", f"--reference={exported / 'decoder.json'}")
