"""The figures and limits of parity.json."""

import importlib.metadata

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export import onnx, parity
from nvae_tf.export.device_graph import sample_graph
from nvae_tf.export.parity import compare_outputs, draw_cases
from nvae_tf.export.saved_model import export as saved_model
from nvae_tf.export.tflite import export as tflite

_EXPECTED = np.array([[1.0, -4.0]], np.float32)


def _compare(tmp_path, values, precision="float32"):
    path = tmp_path / "decoder.tflite"
    path.write_bytes(bytes(2_000_000))
    cases = [({"noise_00": np.zeros(1)}, {"params": _EXPECTED, "left_out": _EXPECTED})] * 2
    return compare_outputs("runtime", "1.0", path, precision, lambda inputs: {"params": np.float32(values)}, cases)


def test_errors_are_those_of_the_outputs(tmp_path):
    entry = _compare(tmp_path, [[1.0, -4.01]], "float16")
    assert set(entry["outputs"]) == {"params"}
    output = entry["outputs"]["params"]
    assert output["max_error"] == pytest.approx(0.01, rel=1e-4)
    assert output["mean_error"] == pytest.approx(0.005, rel=1e-4)
    assert output["relative"] == pytest.approx(0.0025, rel=1e-4)
    assert entry["seconds"] > 0
    assert (entry["bytes"], entry["precision"], entry["version"]) == (2_000_000, "float16", "1.0")


@pytest.mark.parametrize(("value", "precision"), [(-4.00005, "float32"), (np.nan, "float32"), (-4.021, "float16")])
def test_a_file_that_check_tflite_would_fail_is_an_error(tmp_path, value, precision):
    limit = {"float32": "1e-05", "float16": "5e-03"}[precision]
    with pytest.raises(ValueError, match=rf"decoder\.tflite: params: expected what Keras gives, within {limit}"):
        _compare(tmp_path, [[1.0, value]], precision)


@pytest.mark.parametrize(
    ("module", "name", "run"),
    [
        (saved_model, "_write", saved_model.export_saved_model),
        (tflite, "fold", tflite.export_tflite),
        (onnx, "fold", onnx.export_onnx),
        (parity, "_likelihood", lambda nvae, *unused: draw_cases(nvae, sample_graph(nvae), 1, 0.7)),
    ],
    ids=["saved_model", "tflite", "onnx", "check"],
)
def test_tensor_float_32_is_off_while_exports_and_checks_compute(flow_nvae, tmp_path, monkeypatch, module, name, run):
    enabled, seen = tf.config.experimental.tensor_float_32_execution_enabled, []

    def stop(*arguments):
        seen.append(enabled())
        raise InterruptedError

    monkeypatch.setattr(module, name, stop)
    with pytest.raises(InterruptedError):
        run(flow_nvae, tmp_path, {})
    assert seen == [False] and enabled()


@pytest.mark.parametrize("export", [tflite.export_tflite, onnx.export_onnx])
def test_what_an_export_for_devices_needs(flow_nvae, tmp_path, monkeypatch, export):
    for temperature in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature: expected a positive, finite number"):
            export(flow_nvae, tmp_path / "out", {}, temperature=temperature)

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"(onnxruntime|ai-edge-litert): pip install -e '\.\[device\]'"):
        export(flow_nvae, tmp_path / "out", {})
