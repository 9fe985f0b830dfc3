"""A broken graph is caught by the one rule about it."""

import pytest
import tensorflow as tf
from google.protobuf import text_format

from nvae_tf.export.saved_model.check import graph_rules
from nvae_tf.export.saved_model.check.contents import read_saved_model
from nvae_tf.export.saved_model.check.lint import lint_saved_model
from tests.export.saved_model.check.good_saved_model import assert_breaks, complete, edit_graph


def _operation(op, device="", **attributes):
    """Adds an operation to the function that the signatures call last."""

    def edit(graph):
        library = graph.graph_def.library.function
        function = next(f for f in library if any(node.op == "MatMul" for node in f.node_def))
        node = function.node_def.add(name="added", op=op, device=device)
        for name, value in attributes.items():
            setattr(node.attr[name], *value)

    return edit


def _no_default(graph):
    del graph.signature_def["serving_default"]


def _method(graph):
    graph.signature_def["sample"].method_name = "tensorflow/serving/classify"


def _no_inputs(graph):
    graph.signature_def["sample"].ClearField("inputs")


def _rename(old, new):
    def edit(graph):
        outputs = graph.signature_def["sample"].outputs
        outputs[new].CopyFrom(outputs[old])
        del outputs[old]

    return edit


def _image(text):
    """Merges a text of TensorInfo into that of the image."""
    return lambda graph: text_format.Merge(text, graph.signature_def["sample"].outputs["image"])


def _scalar(graph):
    graph.signature_def["sample"].outputs["image"].tensor_shape.ClearField("dim")


def _unknown_rank(graph):
    _scalar(graph)
    graph.signature_def["sample"].outputs["image"].tensor_shape.unknown_rank = True


def _fixed_batch(graph):
    graph.signature_def["sample"].outputs["image"].tensor_shape.dim[0].size = 8


def _variable(graph):
    for node in graph.graph_def.node:
        if node.op == "VarHandleOp":
            node.attr["dtype"].type = tf.bfloat16.as_datatype_enum


_GRAPHS = {
    "no-default": ("predict", _no_default, "['sample']"),
    "classify": ("predict", _method, "signature sample"),
    "no-inputs": ("predict", _no_inputs, "signature sample: expected an input"),
    "slash": ("plain_names", _rename("image", "a/image"), "'a/image'"),
    "no-tensor": ("tensors", _image('name: "nowhere:0"'), "output image of sample"),
    "sparse": ("tensors", _image('coo_sparse { values_tensor_name: "a:0" }'), "coo_sparse"),
    "scalar": (
        "batch_first",
        _scalar,
        "output image of sample: expected an unknown first dimension. Received: a scalar",
    ),
    "unknown-rank": ("batch_first", _unknown_rank, "Received: an unknown rank"),
    "fixed-batch": ("batch_first", _fixed_batch, "Received: the shape [8, 2, 6, 1]"),
    "string": ("bytes_names", _rename("png_bytes", "png"), "output png of sample"),
    "gpu-operation": ("cpu_operations", _operation("CudnnRNNParamsSize"), "CudnnRNNParamsSize added in"),
    "gpu": ("cpu_operations", _operation("NoOp", device="/device:GPU:0"), "/device:GPU:0"),
    "xla": ("no_xla", _operation("XlaDot"), "XlaDot added"),
    "batch-norm": ("no_training", _operation("FusedBatchNormV3", is_training=("b", True)), "is_training=True"),
    "batch-norm-default": ("no_training", _operation("FusedBatchNormV3"), "is_training=True"),
    "half-operation": (
        "no_half",
        _operation("AddV2", T=("type", tf.float16.as_datatype_enum)),
        "1 operations in float16, such as AddV2 added",
    ),
    "bfloat16-variable": ("no_half", _variable, "in bfloat16, such as VarHandleOp"),
}
_STATEFUL = {
    "random": ("RandomStandardNormal", "RandomUniform", "StatefulUniform", "RngReadAndSkip", "FractionalMaxPool"),
    "python": ("EagerPyFunc", "PyFunc", "PyFuncStateless"),
    "kept": ("ResourceApplyAdam", "AssignVariableOp", "ScatterMax", "QueueEnqueueV2", "MutableHashTableV2"),
}
_GRAPHS |= {op: ("no_state", _operation(op), f"{op} added") for operations in _STATEFUL.values() for op in operations}


@pytest.mark.parametrize("case", _GRAPHS)
def test_broken_graph(version, case):
    rule, edit, words = _GRAPHS[case]
    edit_graph(version, edit)
    complete(version)
    assert_breaks(version, rule, words)


def test_what_would_not_run_is_not_run(version):
    edit_graph(version, _no_default)
    complete(version)
    last = lint_saved_model(version)[-1]
    assert (last.name, last.status) == ("executes", "not checked")


@pytest.mark.parametrize("op", ["LookupTableFindV2", "HashTableV2", "TensorArrayV3", "RandomIndexShuffle", "PrintV2"])
def test_operations_that_keep_nothing_of_a_request_are_no_state(version, op):
    edit_graph(version, _operation(op))
    model = read_saved_model(version)
    assert any(operation.node.op == op for operation in model.operations)
    assert not list(graph_rules.no_state(model))


def test_every_rule_is_broken_once():
    broken = {rule for rule, _, _ in _GRAPHS.values()}
    assert broken == {rule.__name__ for rule in graph_rules.GRAPH_RULES}
