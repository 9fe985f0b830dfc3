"""Exported ONNX files: the contents of the folder, and agreement with Keras for any batch."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
import tf2onnx

from nvae_tf.export import onnx as onnx_export
from nvae_tf.export.device_graph import decode_graph, encode_graph, sample_graph
from nvae_tf.export.onnx import convert_to_onnx, export_onnx, half_onnx, onnx_runner
from nvae_tf.export.parity import draw_cases, measure, runtime_version
from nvae_tf.inference.blocks import Convolution
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE

_GRAPHS = {"sample": sample_graph, "decode": decode_graph, "encode": encode_graph}
_FILES = [f"{name}{suffix}.onnx" for name in sorted(_GRAPHS) for suffix in ("", "_float16")]


@pytest.fixture(scope="module")
def exported(flow_nvae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    export_onnx(flow_nvae, folder, {"run": {"step": 7}, "dataset": "digits"}, temperature=0.8)
    return folder


def test_folder_has_all_files_and_their_parity(exported):
    assert {path.name for path in exported.iterdir()} == {*_FILES, "parity.json"}
    parity = json.loads((exported / "parity.json").read_text())
    assert sorted(entry["file"] for entry in parity["files"]) == _FILES
    assert {entry["version"] for entry in parity["files"]} == {runtime_version("onnxruntime")}


@pytest.mark.parametrize("name", _FILES)
def test_files_are_valid_and_say_where_they_come_from(exported, name):
    model = onnx.load(exported / name)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")] == [18]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["run"])["step"] == 7
    assert (metadata["temperature"], metadata["likelihood"], metadata["dataset"]) == ("0.8", "bernoulli", "digits")
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", sorted(_GRAPHS))
def test_any_batch_agrees_with_keras(exported, flow_nvae, name, batch_size):
    graph, run = _GRAPHS[name](InferenceModel(fold(flow_nvae))), onnx_runner(exported / f"{name}.onnx")
    for inputs, expected in draw_cases(flow_nvae, graph, batch_size, 0.7, num=2, seed=9):
        received = run(inputs)
        assert set(received) == set(expected)
        for key, value in expected.items():
            assert measure(received[key], value)["relative"] < 1e-5


def test_mixture_without_flows_with_half_weights(mixture_nvae, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_LEAST_WEIGHTS", 100)
    model = InferenceModel(fold(mixture_nvae))
    graph = encode_graph(model)
    full = convert_to_onnx(model, graph)
    half = half_onnx(full)
    assert half.ByteSize() < 0.85 * full.ByteSize()
    ((inputs, expected),) = draw_cases(mixture_nvae, graph, 2, 0.7, num=1)
    for model, tolerance in ((full, 1e-5), (half, 5e-3)):
        onnx.save(model, tmp_path / "model.onnx")
        received = onnx_runner(tmp_path / "model.onnx")(inputs)
        for key, value in expected.items():
            assert measure(received[key], value)["relative"] < tolerance
    assert any(node.op_type == "Cast" for node in half.graph.node)


def test_only_kernels_of_convolutions_become_half(monkeypatch):
    monkeypatch.setattr(onnx_export, "_LEAST_WEIGHTS", 1)
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {"kernel": [4, 4, 3, 3], "depthwise": [4, 1, 3, 3], "start": [1, 4, 8, 8]}
    values = {name: onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Add", ["x", "start"], ["a"]),
        helper.make_node("Conv", ["a", "kernel"], ["b"], pads=[1] * 4),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], pads=[1] * 4, group=4),
    ]
    ends = [helper.make_tensor_value_info(name, number, [1, 4, 8, 8]) for name in ("x", "c")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], list(values.values())))
    half = half_onnx(model).graph
    casts = [node.output[0] for node in half.node if node.op_type == "Cast"]
    assert casts == [node.input[1] for node in half.node if node.op_type == "Conv"][:1] == ["kernel"]
    assert {tensor.name for tensor in half.initializer} == {"kernel/float16", "depthwise", "start"}


@pytest.mark.parametrize("cell_set", ["res_mbconv", "mbconv_den"])  # the latter has grouped convolutions
def test_kernels_are_inputs_only_while_it_converts(mixture_nvae, cell_set, monkeypatch):
    config = dataclasses.replace(mixture_nvae.model_config, cell_set=cell_set)
    model = InferenceModel(fold(NVAE(config)))
    graph, before, inputs = decode_graph(model), model.variables, []
    from_function = tf2onnx.convert.from_function

    def watched(*arguments, **options):
        converted = from_function(*arguments, **options)
        inputs.extend(value.name for value in converted[0].graph.input)
        return converted

    monkeypatch.setattr(tf2onnx.convert, "from_function", watched)
    converted = convert_to_onnx(model, graph).graph
    # Every copy that TensorFlow and tf2onnx make of a constant costs memory.
    assert len(inputs) - len(graph.inputs) == sum(isinstance(module, Convolution) for module in model.submodules)
    assert [value.name for value in converted.input] == list(graph.inputs)
    stored = {tensor.name for tensor in converted.initializer}
    assert stored <= {name for node in converted.node for name in node.input}
    assert not [node.name for node in converted.node if set(node.input) <= stored]
    assert all(one is other for one, other in zip(before, model.variables, strict=True))
