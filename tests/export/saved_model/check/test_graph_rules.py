"""For each rule about the graph, a broken one is caught by that rule alone."""

import pytest
import tensorflow as tf
from google.protobuf import text_format

from nvae_tf.export.saved_model.check import graph_rules as saved_model_rules
from nvae_tf.export.saved_model.check.contents import read_saved_model
from nvae_tf.export.saved_model.check.lint import CHECKS, lint
from tests.export.saved_model.check.good_saved_model import complete, edit_graph, failed_checks


def _operation(op, device="", **attributes):
    """Adds an operation to the function that the signatures call last."""

    def edit(graph):
        library = graph.graph_def.library.function
        function = next(f for f in library if any(node.op == "MatMul" for node in f.node_def))
        node = function.node_def.add(name="added", op=op, device=device)
        for name, value in attributes.items():
            setattr(node.attr[name], *value)

    return edit


def _tags(graph):
    graph.meta_info_def.tags[:] = ["serve", "gpu"]


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


def _jit(graph):
    for function in graph.graph_def.library.function:
        function.attr["_XlaMustCompile"].b = True


def _variable(graph):
    for node in graph.graph_def.node:
        if node.op == "VarHandleOp":
            node.attr["dtype"].type = tf.bfloat16.as_datatype_enum


_GRAPHS = {
    "other-tags": ("serve_tag", _tags, "['serve', 'gpu']"),
    "no-default": ("serving_default", _no_default, "['sample']"),
    "classify": ("method_name", _method, "signature sample"),
    "no-inputs": ("inputs_outputs", _no_inputs, "signature sample has no input"),
    "slash": ("plain_names", _rename("image", "a/image"), "'a/image'"),
    "no-tensor": ("tensors", _image('name: "nowhere:0"'), "output image of sample"),
    "sparse": ("tensors", _image('coo_sparse { values_tensor_name: "a:0" }'), "coo_sparse"),
    "scalar": ("no_scalars", _scalar, "output image of sample is a scalar"),
    "unknown-rank": ("no_scalars", _unknown_rank, "of unknown rank"),
    "fixed-batch": ("batch_dimension", _fixed_batch, "[8, 2, 6, 1]"),
    "half": ("no_half", _image("dtype: DT_HALF"), "output image of sample is float16"),
    "bfloat16": ("no_half", _image("dtype: DT_BFLOAT16"), "is bfloat16"),
    "string": ("bytes_names", _rename("png_bytes", "png"), "output png of sample"),
    "unknown-operation": ("known_operations", _operation("NoSuchOp"), "NoSuchOp"),
    "gpu-operation": ("cpu_kernels", _operation("CudnnRNNParamsSize"), "CudnnRNNParamsSize added in"),
    "gpu": ("devices", _operation("NoOp", device="/device:GPU:0"), "/device:GPU:0"),
    "tpu": ("devices", _operation("NoOp", device="/job:worker/task:1/device:TPU:0"), "TPU"),
    "random-normal": ("stateless_random", _operation("RandomStandardNormal"), "RandomStandardNormal added"),
    "random-uniform": ("stateless_random", _operation("RandomUniform"), "RandomUniform added"),
    "stateful-uniform": ("stateless_random", _operation("StatefulUniform"), "StatefulUniform added"),
    "generator": ("stateless_random", _operation("RngReadAndSkip"), "RngReadAndSkip added"),
    "fractional-pool": ("stateless_random", _operation("FractionalMaxPool"), "FractionalMaxPool added"),
    "py-function": ("no_python", _operation("EagerPyFunc"), "EagerPyFunc added"),
    "numpy-function": ("no_python", _operation("PyFunc"), "PyFunc added"),
    "stateless-py-function": ("no_python", _operation("PyFuncStateless"), "PyFuncStateless added"),
    "jit": ("no_xla", _jit, "jit_compile=True"),
    "xla-operation": ("no_xla", _operation("XlaDot"), "XlaDot added"),
    "batch-norm": ("no_training", _operation("FusedBatchNormV3", is_training=("b", True)), "is_training=True"),
    "batch-norm-default": ("no_training", _operation("FusedBatchNormV3"), "is_training=True"),
    "optimizer": ("no_training", _operation("ResourceApplyAdam"), "ResourceApplyAdam added"),
    "assignment": ("no_state", _operation("AssignVariableOp"), "AssignVariableOp added"),
    "scatter": ("no_state", _operation("ScatterMax"), "ScatterMax added"),
    "queue": ("no_state", _operation("QueueEnqueueV2"), "QueueEnqueueV2 added"),
    "mutable-table": ("no_state", _operation("MutableHashTableV2"), "MutableHashTableV2 added"),
    "half-operation": (
        "float32_operations",
        _operation("AddV2", T=("type", tf.float16.as_datatype_enum)),
        "1 operations compute in float16, such as AddV2 added",
    ),
    "bfloat16-variable": ("float32_variables", _variable, "variable kernel is bfloat16"),
}


@pytest.mark.parametrize("case", _GRAPHS)
def test_broken_graph(version, case):
    rule, edit, words = _GRAPHS[case]
    edit_graph(version, edit)
    complete(version)
    results = lint(version)
    failed = failed_checks(results)
    assert list(failed) == [rule]
    assert words in failed[rule]
    assert (results[-1].name, results[-1].status) == ("executes", "not checked")


_ADVICE = {
    "float64": ("float64", _operation("AddV2", T=("type", tf.float64.as_datatype_enum)), "AddV2 added"),
    "large-reply": ("reply_size", _image("tensor_shape { dim { size: 400000 } }"), "signature sample answers 2 rows"),
}


@pytest.mark.parametrize("case", _ADVICE)
def test_advice(version, case):
    rule, edit, words = _ADVICE[case]
    edit_graph(version, edit)
    complete(version)
    results = lint(version, execute=False)
    assert not failed_checks(results)
    notes = {result.name: result.detail for result in results if result.status == "note"}
    assert list(notes) == [rule]
    assert words in notes[rule]


@pytest.mark.parametrize("op", ["LookupTableFindV2", "HashTableV2", "TensorArrayV3", "RandomIndexShuffle", "PrintV2"])
def test_what_keeps_nothing_of_a_request_is_no_state(version, op):
    edit_graph(version, _operation(op))
    model = read_saved_model(version)
    assert any(operation.node.op == op for operation in model.operations)
    assert not [*saved_model_rules.no_state(model), *saved_model_rules.stateless_random(model)]


def test_each_rule_has_a_broken_model():
    named = {rule for rule, _, _ in (*_GRAPHS.values(), *_ADVICE.values())}
    of_graphs = {check.name for check in CHECKS if check.function.__module__ == saved_model_rules.__name__}
    assert named == of_graphs | {"reply_size"}
