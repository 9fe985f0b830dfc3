"""Static rules for .tflite files: each finds its own fault, and none finds a fault in a good decoder."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite.check.rules import lint_tflite
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from tests.export.tflite.tiny_tflite import SHAPES, constant, conv, convert, good, naive

_X = {"x": [1, 4, 4, 6]}


@pytest.fixture(scope="module")
def good_file():
    """Bytes of the good decoder."""
    return convert(good, **SHAPES)


def _findings(content):
    return [(finding.rule, finding.tensor) for finding in lint_tflite(TFLiteGraph(content))]


@pytest.mark.parametrize("half", [False, True])
def test_good(good_file, half):
    """Nothing is found; inputs and outputs are those of the signature. float16 weights stand behind DEQUANTIZE."""
    graph = TFLiteGraph(convert(good, half=True, **SHAPES) if half else good_file)
    assert bool(graph.named_operators("DEQUANTIZE")) == half
    assert lint_tflite(graph) == []
    assert graph.signature == "sample"
    assert {value.name: list(value.shape) for value in graph.inputs} == SHAPES
    assert {value.name: value.shape for value in graph.outputs} == {
        "likelihood_params": (1, 8, 8, 6),
        "mean_image": (1, 8, 8, 1),
    }


def test_naive():
    """Every idiom is named."""
    findings = list(map(str, lint_tflite(TFLiteGraph(convert(naive, **SHAPES)))))
    for op in ("TILE", "SPLIT", "ARG_MAX", "ONE_HOT", "GATHER", "SUM"):
        assert any(f"Received: {op}" in finding for finding in findings), op
    assert {finding.partition(":")[0] for finding in findings} >= {"op", "rank", "batch", "dtype"}


_BAD = {
    "rank-5": (lambda x: tf.reshape(tf.nn.softmax(tf.reshape(x, [1, 4, 4, 3, 2])), [1, 4, 4, 6]), _X, "rank"),
    "scalar-input": (lambda x, t: x * t, {**_X, "t": []}, "rank"),
    "batch-2": (lambda x: conv(x, 2), {"x": [2, 4, 4, 6]}, "batch"),
    "dynamic": (lambda x: 2.0 * x, {"x": [1, None, 4, 6]}, "dynamic shape"),
    "int-slice": (lambda x: 2.0 * x[..., 0], _X, "mask"),
    "new-axis": (lambda x: 2.0 * x[:, :, tf.newaxis, 0], _X, "mask"),
    "split": (lambda x: tf.exp(tf.split(x, 2, -1)[0]), _X, "op"),
    "transpose": (lambda x: tf.transpose(x, [0, 2, 1, 3]), _X, "op"),
    "mean-of-channels": (lambda x: tf.reduce_mean(x, 3, keepdims=True), _X, "axes"),
    "mean-of-height": (lambda x: tf.reduce_mean(x, 1, keepdims=True), _X, "axes"),
    "add-pixel": (lambda x, y: x + y, {**_X, "y": [1, 4, 4, 1]}, "broadcast"),
    "sub-channel": (lambda x, y: x - y, {**_X, "y": [1, 1, 1, 6]}, "broadcast"),
    "mul-of-rows": (lambda x, y: x * y, {**_X, "y": [1, 4, 1, 6]}, "broadcast"),
    "sub-itself": (lambda x: x - x + 1.0, _X, "same input"),
    "computed-kernel": (lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), {**_X, "k": [1, 1, 6, 2]}, "constant operand"),
    "input-is-output": (lambda x: {"a": x, "b": 2.0 * x}, _X, "output"),
    "same-output": (lambda x: dict.fromkeys("ab", conv(x, 2)), _X, "output"),
    "constant-output": (lambda x: {"a": constant(1, 2, 2, 3), "b": 2.0 * x}, _X, "output"),
}


@pytest.mark.parametrize("name", _BAD)
def test_bad(name):
    """One idiom that a delegate rejects or computes wrongly."""
    function, shapes, rule = _BAD[name]
    assert rule in {found for found, _ in _findings(convert(function, **shapes))}


_ALLOWED = {
    "factor-of-one-number": (lambda x, y: x * y, {**_X, "y": [1]}),
    "factor-of-channels": (lambda x, y: x * y, {**_X, "y": [1, 1, 1, 6]}),
    "factor-of-pixels": (lambda x, y: x * y, {**_X, "y": [1, 4, 4, 1]}),
    "square": (lambda x: x * x, _X),
    "slices": (lambda x: conv(x[:, 1:-1, 1::2, 2:4], 2), _X),
    "add-constant": (lambda x: x + constant(6), _X),
    "reused-intermediate": (lambda x: {"a": (y := conv(x, 2)), "b": tf.sigmoid(y)}, _X),
    "unused-input": (lambda x, y: conv(x, 2), {**_X, "y": [1]}),
}


@pytest.mark.parametrize("name", _ALLOWED)
def test_allowed(name):
    """Idioms close to the forbidden ones, which the delegate accepts."""
    function, shapes = _ALLOWED[name]
    assert _findings(convert(function, **shapes)) == []


def _no_signature(graph):
    graph.model.signatureDefs = None


def _second_signature(graph):
    graph.model.subgraphs.append(graph.subgraph)
    graph.model.signatureDefs = graph.model.signatureDefs * 2


def _int8_kernel(graph):
    kernel = graph.subgraph.tensors[graph.named_operators("CONV_2D")[0].inputs[1]]
    data = graph.model.buffers[kernel.buffer].data
    kernel.type, graph.model.buffers[kernel.buffer].data = 9, np.zeros(len(data) // 4, np.uint8)


@pytest.mark.parametrize(
    ("edit", "rule"),
    [(_no_signature, "signature"), (_second_signature, "signature"), (_int8_kernel, "dtype")],
)
def test_edited(good_file, edit, rule):
    """Faults that TensorFlow's converter does not produce, made by hand."""
    graph = TFLiteGraph(good_file)
    edit(graph)
    assert {found for found, _ in _findings(graph.pack())} == {rule}


def test_a_finding_names_the_output():
    """By its name in the signature."""
    (finding,) = lint_tflite(TFLiteGraph(convert(lambda x, y: {"sum": x + y}, **_X, y=[1])))
    assert str(finding) == "broadcast: sum: expected tensors of one shape for ADD. Received: [1, 4, 4, 6] and [1]"


def test_batch_is_named_once():
    """Where it begins, not in every later tensor."""
    content = convert(lambda x, y: tf.exp(conv(tf.concat([x, tf.exp(y)], -1), 2)), x=[2, 4, 4, 6], y=[2, 4, 4, 1])
    assert _findings(content) == [("batch", "x"), ("batch", "y")]


def test_damaged(good_file):
    """Anything but a whole file is a ValueError that says so."""
    for content, message in ((b"", "a TFLite file"), (good_file[: len(good_file) // 2], "a whole TFLite file")):
        with pytest.raises(ValueError, match=f"expected {message}"):
            TFLiteGraph(content)
