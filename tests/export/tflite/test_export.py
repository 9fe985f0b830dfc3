"""Exported TFLite files: what is in the folder, and that it computes what Keras computes."""

import importlib.metadata
import json
import os

import numpy as np
import pytest

from nvae_tf.config import ModelConfig
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint
from nvae_tf.export.device_graph import encode_graph, sample_graph
from nvae_tf.export.parity import draw_cases
from nvae_tf.export.tflite import export as tflite
from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.export.tflite.check.lint import lint
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from nvae_tf.export.tflite.weights import cost, half_weights
from nvae_tf.files import file_sum
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.load import load_run
from nvae_tf.runs.provenance import provenance
from tests.export.tiny_export import MIXTURE, write_run

_FILES = ["decoder_float16.tflite", "decoder_float32.tflite", "encoder_float16.tflite", "encoder_float32.tflite"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module")
def nvae(run_dir):
    return load_run(run_dir)


@pytest.fixture(scope="module")
def exported(nvae, run_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("device") / "models" / "tiny"
    tflite.export_tflite(nvae, folder, provenance(run_dir, nvae), encoder=True, temperature=0.8)
    return folder


def _relative(received, expected):
    return np.max(np.abs(received - expected)) / np.max(np.abs(expected))


def test_folder_holds_what_it_says(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "decoder.json",
        *_FILES,
        "golden.bin",
        "parity.json",
    ]
    assert list(exported.parent.iterdir()) == [exported]
    sidecar = json.loads((exported / "decoder.json").read_text())
    assert sidecar["checkpoint"]["step"] == 7
    assert sidecar["sha256"] == {name: file_sum(exported / name) for name in [*_FILES, "golden.bin"]}
    parity = json.loads((exported / "parity.json").read_text())
    assert sorted(entry["file"] for entry in parity["files"]) == _FILES
    for entry in parity["files"]:
        limit = 1e-5 if entry["precision"] == "float32" else 5e-3
        assert all(output["relative"] < limit for output in entry["outputs"].values())


@pytest.mark.parametrize("name", _FILES)
def test_sidecar_describes_the_files_and_they_pass_lint(exported, name):
    graph = TFLiteGraph((exported / name).read_bytes())
    assert [str(finding) for finding in lint(graph)] == []
    sidecar = json.loads((exported / "decoder.json").read_text())
    part = sidecar if name.startswith("decoder") else sidecar["encoder"]
    assert name in part["files"].values()
    assert graph.signature == part["signature"]
    for side in ("inputs", "outputs"):
        described = {value["name"]: tuple(value["shape"]) for value in part[side]}
        assert {value.name: value.shape for value in getattr(graph, side)} == described


def test_golden_numbers_are_met(exported):
    sidecar = json.loads((exported / "decoder.json").read_text())
    values = np.fromfile(exported / sidecar["golden"]["file"], "<f4")
    arrays = {"input": {}, "output": {}}
    for array in sidecar["golden"]["arrays"]:
        first = array["offset"]
        arrays[array["role"]][array["name"]] = values[first : first + array["count"]].reshape(array["shape"])
    outputs = tflite.runner(exported / "decoder_float32.tflite", "sample")(arrays["input"])
    assert set(outputs) == set(arrays["output"]) == {"likelihood_params", "probabilities"}
    for name, value in outputs.items():
        assert _relative(value, arrays["output"][name]) < 1e-5


def test_encoder_and_decoder_reconstruct(exported, nvae):
    image = np.random.default_rng(3).random([1, 8, 8, 1], np.float32)
    zeros = {f"posterior_noise_{i:02}": np.zeros(shape, np.float32) for i, shape in enumerate(nvae.noise_shapes(1))}
    noise = tflite.runner(exported / "encoder_float32.tflite", "encode")({"image": image, **zeros})
    inputs = {"temperature": np.ones([1], np.float32), **noise}
    outputs = tflite.runner(exported / "decoder_float32.tflite", "sample")(inputs)
    expected = nvae(image, noise=list(zeros.values())).likelihood_params
    assert _relative(outputs["likelihood_params"], expected) < 1e-4


def _agree_on_gpu(path):
    graph = TFLiteGraph(path.read_bytes())
    inputs = tflite_run.draws(graph, 1, seed=0)
    try:
        result = tflite_run.run(path, graph, inputs, "gpu")
    except tflite_run.NotAvailable as error:
        if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
            raise
        pytest.skip(str(error))
    assert result.accelerated
    for name, expected in tflite_run.run(path, graph, inputs, "cpu").outputs.items():
        assert _relative(result.outputs[name], expected) < 1e-3


def test_encoder_runs_whole_on_the_gpu_delegate(exported):
    _agree_on_gpu(exported / "encoder_float16.tflite")


def test_mixture_of_which_some_groups_are_sampled(tmp_path):
    nvae = NVAE(MIXTURE)
    model = InferenceModel(fold(nvae))
    graph = sample_graph(model, 1, num_groups=1)
    content = tflite.convert(model, graph)
    half = half_weights(content, least_weights=100)
    assert [value.name for value in TFLiteGraph(content).inputs] == ["noise_00", "temperature"]
    assert len(half) < 0.8 * len(content)
    for data, name, tolerance in ((content, "full", 1e-5), (half, "half", 5e-3)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        assert lint(TFLiteGraph(data)) == []
        run = tflite.runner(path, "sample")
        for inputs, expected in draw_cases(nvae, graph, 1, 0.7, num=2, seed=5):
            received = run(inputs)
            assert set(received) == set(expected) == {"likelihood_params", "mean_image"}
            assert all(_relative(received[key], expected[key]) < tolerance for key in expected)
    _agree_on_gpu(path)


def test_cost_is_that_counted_by_hand():
    config = ModelConfig(
        image_height=4,
        image_width=8,
        num_scales=1,
        groups_per_scale=1,
        latent_channels=2,
        encoder_channels=3,
        decoder_channels=3,
        preprocess_blocks=0,
        postprocess_blocks=0,
    )
    model = InferenceModel(fold(NVAE(config)))
    merge, likelihood_head = 2 * 3, 9 * 3 * 1
    found = cost(tflite.convert(model, sample_graph(model, 1)))
    assert found["macs"] == 4 * 8 * (merge + likelihood_head)
    assert found["parameters"] == merge + 3 + likelihood_head + 1  # with the biases


def test_an_export_is_never_replaced(exported, nvae):
    before = file_sum(exported / "decoder.json")
    with pytest.raises(FileExistsError, match=f"{exported}: expected a new folder"):
        tflite.export_tflite(nvae, exported, {})
    assert file_sum(exported / "decoder.json") == before


def test_nothing_is_left_where_a_file_does_not_agree(nvae, tmp_path, monkeypatch):
    other = InferenceModel(fold(nvae))
    other.likelihood_head.bias.assign_add([0.5])
    monkeypatch.setattr(tflite, "InferenceModel", lambda nvae: other)
    with pytest.raises(ValueError, match=r"decoder_float32\.tflite: expected likelihood_params as of Keras"):
        tflite.export_tflite(nvae, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("temperature", [0.0, float("nan"), float("inf")])
def test_wrong_temperature_is_an_error(nvae, tmp_path, temperature):
    with pytest.raises(ValueError, match="temperature: expected a positive, finite number"):
        tflite.export_tflite(nvae, tmp_path / "out", {}, temperature=temperature)


def test_without_the_runtime_it_says_what_to_install(nvae, tmp_path, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"ai-edge-litert: pip install -e '\.\[device\]'"):
        tflite.export_tflite(nvae, tmp_path / "out", {})


def _channels_last(array):
    return np.moveaxis(array, 1, -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_small_trained", "cifar10_tiny_flow", "celeba64_tiny_5bit"])
def test_decoder_gives_the_numbers_of_the_original(golden, tmp_path, name):
    model = InferenceModel(fold(model_from_checkpoint(read_checkpoint(golden / f"{name}.checkpoint.pt"))))
    content = tflite.convert(model, sample_graph(model, 1))
    with np.load(golden / f"{name}.expected.npz") as file:
        noise = {f"noise_{i:02}": _channels_last(file[f"eps_{i}"])[:1] for i in range(len(model.groups))}
        expected = _channels_last(file["sample_logits_t0.6"])[:1]
    for data, precision, tolerance in ((content, "float32", 1e-5), (half_weights(content), "float16", 5e-3)):
        path = tmp_path / f"{precision}.tflite"
        path.write_bytes(data)
        assert lint(TFLiteGraph(data)) == []
        received = tflite.runner(path, "sample")({"temperature": np.array([0.6], np.float32), **noise})
        assert _relative(received["likelihood_params"], expected) < tolerance
        _agree_on_gpu(path)


@pytest.mark.slow
def test_encoder_with_flows_runs_whole_on_the_gpu_delegate(golden, tmp_path):
    model = InferenceModel(fold(model_from_checkpoint(read_checkpoint(golden / "celeba64_tiny_5bit.checkpoint.pt"))))
    path = tmp_path / "encoder.tflite"
    path.write_bytes(tflite.convert(model, encode_graph(model, 1, noise_only=True)))
    assert lint(TFLiteGraph(path.read_bytes())) == []
    _agree_on_gpu(path)
