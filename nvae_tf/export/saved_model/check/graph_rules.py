"""Rules about the signatures and operations of a SavedModel.

A rule is a function from a `SavedModel` to findings, which are texts that name the tensor, signature or operation. The
function's name is the rule's name, and its docstring says why it is a rule.
"""

import re

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels, op_def_registry

_PREDICT_METHOD = "tensorflow/serving/predict"
_BATCH_NORM = re.compile(r"FusedBatchNorm(V\d)?")
_PYTHON_OR_RANDOM = re.compile(r"PyFuncStateless|Fractional(Avg|Max)Pool")  # which TensorFlow does not mark as stateful
# Marked as stateful, or with a reference as input, and yet they keep nothing of a request: these read what the
# load put there, check, call, print, or live for one run. A HashTable is filled at the load and never again.
_KEEPS_NOTHING = re.compile(
    r"VarHandleOp|Variable(V2)?|ReadVariableOp|VariableShape|VarIsInitializedOp|IsVariableInitialized|ResourceGather(Nd)?"
    r"|(Anonymous)?HashTable(V2)?|LookupTable(Find|Size|Export)(V2)?|TensorArray.*|Ref(Enter|Exit|Identity|Merge|Select"
    r"|Switch|NextIteration)|Assert|CheckNumerics(V2)?|Print(V2)?|StatefulPartitionedCall|RemoteCall|If|Case|While"
    r"|Empty|GuaranteeConst|DeviceIndex|StatelessRandomGetAlg|IsTensorFloat32Enabled"
)
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CPU = re.compile(r"(/job:localhost/replica:0/task:0)?(/device:CPU:0|/cpu:0)?", re.IGNORECASE)


def shape_of(info):
    """Tuple of a TensorInfo's dimensions, with -1 for an unknown one; None if not even the rank is known."""
    return None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)


def predict(model):
    """Predict runs signatures with its method, an input and an output; the default is for requests that name none."""
    if "serving_default" not in model.signatures:
        yield f"expected a signature serving_default. Received: {list(model.signatures) or 'no signature'}"
    for name, signature in model.signatures.items():
        if signature.method_name != _PREDICT_METHOD:
            yield f"signature {name}: expected {_PREDICT_METHOD}. Received: {signature.method_name!r}"
        if not signature.inputs or not signature.outputs:
            yield f"signature {name}: expected an input and an output"


def plain_names(model):
    """Names are fields of JSON and of client code."""
    names = [(f"signature {name}", name) for name in model.signatures]
    for text, name in names + [(text, name) for text, name, _ in model.tensors]:
        if not _PLAIN_NAME.fullmatch(name):
            yield f"{text}: expected letters, digits and _, a letter first. Received: {name!r}"


def tensors(model):
    """A signature is run by feeding and fetching dense tensors of the graph."""
    nodes = {node.name for node in model.meta_graph.graph_def.node}
    for text, _, info in model.tensors:
        if info.WhichOneof("encoding") != "name":
            yield f"{text}: expected a dense tensor. Received: {info.WhichOneof('encoding')}"
        elif not re.fullmatch(r".+:\d+", info.name) or info.name.rpartition(":")[0] not in nodes:
            yield f"{text}: the graph has no tensor {info.name!r}"


def batch_first(model):
    """The server concatenates the rows of several requests along dimension 0, and splits the answer."""
    for text, _, info in model.tensors:
        shape = shape_of(info)
        if not shape or shape[0] != -1:
            received = "a scalar" if shape == () else "an unknown rank" if shape is None else f"the shape {list(shape)}"
            yield f"{text}: expected an unknown first dimension. Received: {received}"


def bytes_names(model):
    """REST answers strings in base64 only if the output's name ends in _bytes."""
    for signature_name, signature in model.signatures.items():
        for name, info in sorted(signature.outputs.items()):
            if info.dtype == types_pb2.DT_STRING and not name.endswith("_bytes"):
                yield f"output {name} of {signature_name} is a string"


def cpu_operations(model):
    """A server may have no other device than the CPU."""
    seen = set()
    for operation in model.operations:
        name = operation.node.op
        if not _CPU.fullmatch(operation.node.device):
            yield f"{operation} is placed on {operation.node.device}"
        if name not in seen and op_def_registry.get(name) is not None:
            registered = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(name).kernel}
            if not registered & {"CPU", "DEFAULT"}:
                yield f"{operation} runs on {', '.join(sorted(registered)) or 'no device here'} only"
        seen.add(name)


def no_xla(model):
    """The server has XLA compilation disabled."""
    for operation in model.operations:
        attributes = operation.node.attr
        if operation.node.op.startswith("Xla") or ("_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b):
            yield str(operation)


def no_training(model):
    """Batch norm that trains makes an answer depend on the rest of its batch."""
    for operation in model.operations:
        # An attribute that is left out is true.
        trains = "is_training" not in operation.node.attr or operation.node.attr["is_training"].b
        if _BATCH_NORM.fullmatch(operation.node.op) and trains:
            yield f"{operation} has is_training=True"


def no_state(model):
    """An answer must depend on its request only: no stateful random numbers, assignments or Python functions."""
    for operation in model.operations:
        name = operation.node.op
        definition = op_def_registry.get(name)
        keeps = definition and (definition.is_stateful or any(argument.is_ref for argument in definition.input_arg))
        if _PYTHON_OR_RANDOM.fullmatch(name) or (keeps and not _KEEPS_NOTHING.fullmatch(name)):
            yield str(operation)


def no_half(model):
    """Half types are slow on processors, lose digits, and have no form in REST."""
    for dtype in (tf.float16, tf.bfloat16):
        found = [
            operation
            for operation in model.operations
            if any(value.type == dtype.as_datatype_enum for value in operation.node.attr.values())
        ]
        if found:  # one finding, because a whole model has this type
            yield f"{len(found)} operations in {dtype.name}, such as {found[0]}"


GRAPH_RULES = (
    *(predict, plain_names, tensors, batch_first, bytes_names),
    *(cpu_operations, no_xla, no_training, no_state, no_half),
)
