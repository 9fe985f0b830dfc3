"""Rules about the signatures and operations of a SavedModel.

A rule is a function from a `SavedModel` to findings, which are texts that name the tensor, signature or operation. The
function's name is the rule's name, and its docstring says why it is a rule.
"""

import re

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, types_pb2
from tensorflow.python.framework import kernels, op_def_registry

_PREDICT_METHOD = "tensorflow/serving/predict"
_BATCH_NORM = re.compile(r"FusedBatchNorm(V\d)?")
_PYTHON_OR_RANDOM = re.compile(r"PyFuncStateless|Fractional(Avg|Max)Pool")  # which TensorFlow does not mark as stateful
# Marked as stateful, or with a reference as input, and yet nothing of a request is left after it: these read what the
# load put there, check, call, print, or live for one run. A HashTable is filled at the load and never again.
_KEEPS_NOTHING = re.compile(
    r"VarHandleOp|Variable(V2)?|ReadVariableOp|VariableShape|VarIsInitializedOp|IsVariableInitialized|ResourceGather(Nd)?"
    r"|(Anonymous)?HashTable(V2)?|LookupTable(Find|Size|Export)(V2)?|TensorArray.*|Ref(Enter|Exit|Identity|Merge|Select"
    r"|Switch|NextIteration)|Assert|CheckNumerics(V2)?|Print(V2)?|StatefulPartitionedCall|RemoteCall|If|Case|While"
    r"|Empty|GuaranteeConst|DeviceIndex|StatelessRandomGetAlg|IsTensorFloat32Enabled"
)
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CPU = re.compile(r"(/job:localhost/replica:0/task:0)?(/device:CPU:0|/cpu:0)?", re.IGNORECASE)


def dtype_name(info):
    """Name of a TensorInfo's type; "string" for bytes, "none" for anything but a dense tensor."""
    return tf.as_dtype(info.dtype).name if info.dtype in types_pb2.DataType.values() and info.dtype else "none"


def shape_of(info):
    """Tuple of a TensorInfo's dimensions, with -1 for an unknown one; None if not even the rank is known."""
    return None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)


def _attribute(node, name):
    # Reading node.attr[name] would make one.
    return node.attr[name] if name in node.attr else attr_value_pb2.AttrValue()


def serve_tag(model):
    """The server loads the graph whose only tag is serve."""
    tags = list(model.meta_graph.meta_info_def.tags)
    if tags != ["serve"]:
        yield f"expected a graph whose only tag is serve. Received: {tags}"


def serving_default(model):
    """Requests that name no signature get this one."""
    if "serving_default" not in model.signatures:
        yield f"expected a signature serving_default. Received: {list(model.signatures) or 'no signature'}"


def method_name(model):
    """Predict runs signatures of this method."""
    for name, signature in model.signatures.items():
        if signature.method_name != _PREDICT_METHOD:
            yield f"signature {name}: expected {_PREDICT_METHOD}. Received: {signature.method_name!r}"


def inputs_outputs(model):
    """A request needs at least one input, and an answer one output."""
    for name, signature in model.signatures.items():
        if not signature.inputs:
            yield f"signature {name} has no input"
        if not signature.outputs:
            yield f"signature {name} has no output"


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
            if dtype_name(info) == "string" and not name.endswith("_bytes"):
                yield f"output {name} of {signature_name} is a string"


def known_operations(model):
    """An unknown operation stops the load."""
    graph = model.meta_graph.graph_def
    library = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for name in sorted({node.op for node in nodes} - library):
        if op_def_registry.get(name) is None:
            yield f"{name} is unknown to TensorFlow {tf.__version__}"


def cpu_operations(model):
    """A server may have no other device than the CPU."""
    seen = set(model.functions)
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
        compiled_call = _attribute(operation.node, "_XlaMustCompile").b
        # The function itself is named below.
        calls = {value.func.name for value in operation.node.attr.values()}
        if operation.node.op.startswith("Xla") or (compiled_call and not calls & set(model.functions)):
            yield str(operation)
    for name, function in model.functions.items():
        if _attribute(function, "_XlaMustCompile").b:
            yield f"function {name} has jit_compile=True"


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
        known = name.startswith("Xla") or _KEEPS_NOTHING.fullmatch(name)
        if _PYTHON_OR_RANDOM.fullmatch(name) or (keeps and not known):
            yield str(operation)


def _operations_in(model, *dtypes):
    """A finding for each type that operations have, mixed precision's included, where variables are float32."""
    for dtype in dtypes:
        found = [
            operation
            for operation in model.operations
            if any(value.type == dtype.as_datatype_enum for value in operation.node.attr.values())
        ]
        if found:
            yield f"{len(found)} operations in {dtype.name}, such as {found[0]}"


def no_half(model):
    """Half types are slow on processors, lose digits, and have no form in REST."""
    yield from _operations_in(model, tf.float16, tf.bfloat16)


def no_float64(model):
    """Numbers of type float64 take twice the memory and time."""
    yield from _operations_in(model, tf.float64)


GRAPH_RULES = (
    *(serve_tag, serving_default, method_name, inputs_outputs, plain_names, tensors, batch_first, bytes_names),
    *(known_operations, cpu_operations, no_xla, no_training, no_state, no_half),
)
