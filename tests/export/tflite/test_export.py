"""Exported TFLite files: the contents of the folder, and agreement with Keras."""

import json
import os
import shutil

import numpy as np
import pytest

from nvae_tf.config import ModelConfig
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint
from nvae_tf.export.device_graph import encode_graph, sample_graph
from nvae_tf.export.parity import draw_cases, measure
from nvae_tf.export.tflite import export as tflite
from nvae_tf.export.tflite import flatbuffer
from nvae_tf.export.tflite.check.rules import lint_tflite
from nvae_tf.export.tflite.check.run import NotAvailable, random_inputs, run_file
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph, cost, half_tflite
from nvae_tf.export.tflite.sidecar import sidecar_answers
from nvae_tf.files import file_sum
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE

_FILES = ["decoder_float16.tflite", "decoder_float32.tflite", "encoder_float16.tflite", "encoder_float32.tflite"]
_PROVENANCE = {"run": {"step": 7, "checkpoint_sha256": "ab"}, "dataset": "digits"}


@pytest.fixture(scope="module")
def exported(flow_nvae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("device") / "models" / "tiny"
    tflite.export_tflite(flow_nvae, folder, _PROVENANCE, encoder=True, temperature=0.8)
    return folder


def test_folder_has_all_files_and_their_parity(exported):
    names = ["decoder.json", *_FILES, "golden.bin", "parity.json"]
    assert sorted(path.name for path in exported.iterdir()) == names
    assert list(exported.parent.iterdir()) == [exported]
    parity = json.loads((exported / "parity.json").read_text())
    assert sorted(entry["file"] for entry in parity["files"]) == _FILES


def test_an_app_finds_what_it_needs_in_the_sidecar(exported):
    sidecar = json.loads((exported / "decoder.json").read_text())
    assert (sidecar["format"], sidecar["signature"], sidecar["temperature"]) == (1, "sample", 0.8)
    assert sidecar["files"] == {"float32": "decoder_float32.tflite", "float16": "decoder_float16.tflite"}
    assert [(value["name"], value["shape"], value["dtype"]) for value in sidecar["inputs"]] == [
        ("noise_00", [1, 2, 2, 2], "float32"),
        ("noise_01", [1, 4, 4, 2], "float32"),
        ("temperature", [1], "float32"),
    ]
    assert sidecar["inputs"][0]["distribution"] == "standard normal"
    image = {"height": 6, "width": 6, "channels": 1, "padding": 1, "bit_depth": 8, "value_range": [0, 1]}
    assert sidecar["image"] == image  # without the padding
    assert (sidecar["likelihood"]["kind"], sidecar["mean"]) == ("bernoulli", "probabilities")
    assert (sidecar["num_groups"], sidecar["num_sampled_groups"]) == (2, 2)
    assert set(sidecar) >= {"parameters", "macs", "encoder", "provenance"}
    assert sidecar["checkpoint"] == {"step": 7, "sha256": "ab"}
    assert sidecar["sha256"] == {name: file_sum(exported / name) for name in [*_FILES, "golden.bin"]}


@pytest.mark.parametrize("name", _FILES)
def test_sidecar_describes_the_files_and_they_pass_lint(exported, name):
    graph = TFLiteGraph((exported / name).read_bytes())
    assert lint_tflite(graph) == []
    sidecar = json.loads((exported / "decoder.json").read_text())
    part = sidecar if name.startswith("decoder") else sidecar["encoder"]
    assert name in part["files"].values()
    assert graph.signature == part["signature"]
    for side in ("inputs", "outputs"):
        described = {value["name"]: tuple(value["shape"]) for value in part[side]}
        assert {value.name: value.shape for value in getattr(graph, side)} == described


@pytest.mark.parametrize(("name", "signature"), [("decoder", "sample"), ("encoder", "encode")])
def test_golden_numbers_are_met(exported, name, signature):
    path = exported / f"{name}_float32.tflite"
    inputs, expected = sidecar_answers(exported / "decoder.json", path, signature)
    outputs = tflite.tflite_runner(path, signature)(inputs)
    assert set(outputs) == set(expected)
    for key, value in outputs.items():
        assert measure(value, expected[key])["relative"] < 1e-5


def test_damaged_golden_numbers(exported, tmp_path):
    """Changed or cut files, and a JSON file that is no sidecar."""
    folder = shutil.copytree(exported, tmp_path / "copy")
    path, sidecar, golden = folder / "decoder_float32.tflite", folder / "decoder.json", folder / "golden.bin"
    damages = [
        (golden, golden.read_bytes()[:-4] + bytes(4), "golden.bin: expected the SHA-256"),
        (golden, golden.read_bytes()[:40], "decoder.json: expected a sidecar with its golden file"),
        (path, path.read_bytes() + bytes(4), "decoder_float32.tflite: expected the SHA-256"),
        (sidecar, b'{"format": 1}', r"Received: KeyError\('sha256'\)"),
    ]
    for file, content, message in damages:
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            sidecar_answers(sidecar, path, "sample")
        file.write_bytes(whole)
    # Sidecars of the decoder only, and older ones, have no numbers of the encoder.
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"encoder": None}))
    assert sidecar_answers(sidecar, folder / "encoder_float32.tflite", "encode") is None


def test_encoder_and_decoder_reconstruct(exported, flow_nvae):
    image, shapes = np.random.default_rng(3).random([1, 8, 8, 1], np.float32), flow_nvae.noise_shapes(1)
    zeros = {f"posterior_noise_{i:02}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
    noise = tflite.tflite_runner(exported / "encoder_float32.tflite", "encode")({"image": image, **zeros})
    inputs = {"temperature": np.ones([1], np.float32), **noise}
    outputs = tflite.tflite_runner(exported / "decoder_float32.tflite", "sample")(inputs)
    expected = flow_nvae(image, noise=list(zeros.values())).likelihood_params
    assert measure(outputs["likelihood_params"], expected)["relative"] < 1e-4


def _agree_on_gpu(path):
    graph = TFLiteGraph(path.read_bytes())
    assert lint_tflite(graph) == []
    inputs = random_inputs(graph, 1, seed=0)
    try:
        result = run_file(path, graph, inputs, "gpu")
    except NotAvailable as error:
        if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
            raise
        pytest.skip(str(error))
    assert result.accelerated
    for name, expected in run_file(path, graph, inputs, "cpu").outputs.items():
        assert measure(result.outputs[name], expected)["relative"] < 1e-3


def test_encoder_runs_entirely_on_the_gpu_delegate(exported):
    _agree_on_gpu(exported / "encoder_float16.tflite")


def test_mixture_of_which_some_groups_are_sampled(mixture_nvae, tmp_path, monkeypatch):
    monkeypatch.setattr(flatbuffer, "LEAST_WEIGHTS", 100)
    model = InferenceModel(fold(mixture_nvae))
    graph = sample_graph(model, 1, num_groups=1)
    content = tflite.convert_to_tflite(model, graph)
    half = half_tflite(content)
    assert [value.name for value in TFLiteGraph(content).inputs] == ["noise_00", "temperature"]
    assert len(half) < 0.85 * len(content)
    for data, name, tolerance in ((content, "full", 1e-5), (half, "half", 5e-3)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        run = tflite.tflite_runner(path, "sample")
        for inputs, expected in draw_cases(mixture_nvae, graph, 1, 0.7, num=2, seed=5):
            received = run(inputs)
            assert set(received) == set(expected) == {"likelihood_params", "mean_image"}
            assert all(measure(received[key], expected[key])["relative"] < tolerance for key in expected)
    _agree_on_gpu(path)


def test_cost_is_that_counted_by_hand():
    sizes = {"image_height": 4, "image_width": 8, "num_scales": 1, "groups_per_scale": 1, "latent_channels": 2}
    blocks = {"preprocess_blocks": 0, "postprocess_blocks": 0}
    model = InferenceModel(fold(NVAE(ModelConfig(encoder_channels=3, decoder_channels=3, **sizes, **blocks))))
    merge, likelihood_head = 2 * 3, 9 * 3 * 1
    found = cost(tflite.convert_to_tflite(model, sample_graph(model, 1)))
    assert found["macs"] == 4 * 8 * (merge + likelihood_head)
    assert found["parameters"] == merge + 3 + likelihood_head + 1  # with the biases


def test_nothing_is_left_if_a_file_does_not_agree(flow_nvae, tmp_path, monkeypatch):
    other = InferenceModel(fold(flow_nvae))
    other.likelihood_head.bias.assign_add([0.5])
    monkeypatch.setattr(tflite, "InferenceModel", lambda folded: other)
    with pytest.raises(ValueError, match=r"decoder_float32\.tflite: likelihood_params: expected what Keras gives"):
        tflite.export_tflite(flow_nvae, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []


def _channels_last(array):
    return np.moveaxis(array, 1, -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_small_trained", "cifar10_tiny_flow", "celeba64_tiny_5bit"])
def test_decoder_gives_the_numbers_of_the_original(golden, tmp_path, name):
    model = InferenceModel(fold(model_from_checkpoint(read_checkpoint(golden / f"{name}.checkpoint.pt"))))
    content = tflite.convert_to_tflite(model, sample_graph(model, 1))
    with np.load(golden / f"{name}.expected.npz") as file:
        noise = {f"noise_{i:02}": _channels_last(file[f"eps_{i}"])[:1] for i in range(len(model.groups))}
        expected = _channels_last(file["sample_logits_t0.6"])[:1]
    for data, precision, tolerance in ((content, "float32", 1e-5), (half_tflite(content), "float16", 5e-3)):
        path = tmp_path / f"{precision}.tflite"
        path.write_bytes(data)
        received = tflite.tflite_runner(path, "sample")({"temperature": np.array([0.6], np.float32), **noise})
        assert measure(received["likelihood_params"], expected)["relative"] < tolerance
        _agree_on_gpu(path)
    if name == "celeba64_tiny_5bit":  # with flows
        path = tmp_path / "encoder.tflite"
        path.write_bytes(tflite.convert_to_tflite(model, encode_graph(model, 1, noise_only=True)))
        _agree_on_gpu(path)
