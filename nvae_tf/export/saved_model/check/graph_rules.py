"""Rules about the signatures and operations of a SavedModel. Each is a function from a `SavedModel` to its findings.

What breaks each rule, and why it is one, is in the list of nvae_tf/export/saved_model_lint.py.
"""

import math
import re

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, types_pb2
from tensorflow.python.framework import kernels, op_def_registry

PREDICT_METHOD = "tensorflow/serving/predict"
# What a gRPC client takes unless it asks for more.
_MESSAGE_BYTES = 4 * 2**20

_HALF = {"float16", "bfloat16"}
_STATEFUL_RANDOM = re.compile(
    r"Random(?!GammaGrad|IndexShuffle).*|Stateful(Standard|Uniform|Truncated|Random).*|Rng.*|NonDeterministicInts"
    r"|Multinomial|(Parameterized)?TruncatedNormal|SampleDistortedBoundingBox.*|.*CandidateSampler|RiscRandom.*"
    r"|AnonymousRandomSeedGenerator|Fractional(Avg|Max)Pool|CudnnRNN(Backprop)?(V\d)?|Skipgram"
)
_PYTHON = re.compile(r"PyFunc|PyFuncStateless|EagerPyFunc")
_XLA = re.compile(r"Xla.*")
_OPTIMIZER = re.compile(r"(Resource)?(Sparse)?Apply[A-Z].*")
_BATCH_NORM = re.compile(r"FusedBatchNorm(V\d)?")
# Stateful for TensorFlow, or with a reference for input, and yet nothing of a request is left after it: they read what
# the load put there, check, call, print, or live for one run. A HashTable is filled at the load, and never again.
_KEEPS_NOTHING = re.compile(
    r"VarHandleOp|Variable(V2)?|ReadVariableOp|VariableShape|VarIsInitializedOp|IsVariableInitialized|ResourceGather(Nd)?"
    r"|(Anonymous)?HashTable(V2)?|LookupTable(Find|Size|Export)(V2)?|TensorArray.*|Ref(Enter|Exit|Identity|Merge|Select"
    r"|Switch|NextIteration)|Assert|CheckNumerics(V2)?|Print(V2)?|StatefulPartitionedCall|RemoteCall|If|Case|While"
    r"|Empty|GuaranteeConst|DeviceIndex|StatelessRandomGetAlg|IsTensorFloat32Enabled"
)
_VARIABLE = re.compile(r"VarHandleOp")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CPU = re.compile(r"(/job:localhost/replica:0/task:0)?(/device:CPU:0|/cpu:0)?", re.IGNORECASE)


def dtype_name(info):
    """Name of a TensorInfo's type; "string" for one of bytes, "none" for what is no dense tensor."""
    return tf.as_dtype(info.dtype).name if info.dtype in types_pb2.DataType.values() and info.dtype else "none"


def attribute(node, name):
    """A node's or function's attribute, an empty one where it has none (reading attr[name] would make one)."""
    return node.attr[name] if name in node.attr else attr_value_pb2.AttrValue()


def shape_of(info):
    """Tuple of a TensorInfo's dimensions, -1 for an unknown one; None where not even the rank is known."""
    return None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)


def serve_tag(model):
    tags = list(model.meta_graph.meta_info_def.tags)
    if tags != ["serve"]:
        yield f"expected a graph with the tag serve alone. Received: {tags}"


def default_signature(model):
    if "serving_default" not in model.signatures:
        yield f"expected a signature serving_default. Received: {list(model.signatures) or 'no signature'}"


def method_name(model):
    for name, signature in model.signatures.items():
        if signature.method_name != PREDICT_METHOD:
            yield f"signature {name}: expected {PREDICT_METHOD}. Received: {signature.method_name!r}"


def has_inputs(model):
    for name, signature in model.signatures.items():
        if not signature.inputs:
            yield f"signature {name} has no input"
        if not signature.outputs:
            yield f"signature {name} has no output"


def plain_names(model):
    names = [(f"signature {name}", name) for name in model.signatures]
    names += [(text, name) for text, name, _ in model.tensors]
    for text, name in names:
        if not _PLAIN_NAME.fullmatch(name):
            yield f"{text}: expected letters, digits and _, a letter first. Received: {name!r}"


def tensors_exist(model):
    nodes = {node.name for node in model.meta_graph.graph_def.node}
    for text, _, info in model.tensors:
        if info.WhichOneof("encoding") != "name":
            yield f"{text}: expected a dense tensor. Received: {info.WhichOneof('encoding')}"
        elif not re.fullmatch(r".+:\d+", info.name) or info.name.rpartition(":")[0] not in nodes:
            yield f"{text}: the graph has no tensor {info.name!r}"


def no_scalars(model):
    for text, _, info in model.tensors:
        if not shape_of(info):
            yield f"{text} is {'of unknown rank' if info.tensor_shape.unknown_rank else 'a scalar'}"


def batch_dimension(model):
    for text, _, info in model.tensors:
        if shape_of(info) and shape_of(info)[0] != -1:
            yield f"{text}: expected an unknown first dimension. Received: the shape {list(shape_of(info))}"


def no_half(model):
    for text, _, info in model.tensors:
        if dtype_name(info) in _HALF:
            yield f"{text} is {dtype_name(info)}"


def bytes_names(model):
    for signature_name, signature in model.signatures.items():
        for name, info in sorted(signature.outputs.items()):
            if dtype_name(info) == "string" and not name.endswith("_bytes"):
                yield f"output {name} of {signature_name} is a string"


def reply_size(model, batch_size):
    """Signatures whose reply to `batch_size` rows is over 4 MB; what has no known shape is not counted."""
    for name, signature in model.signatures.items():
        size = 0
        for info in signature.outputs.values():
            shape = shape_of(info) or (-1, -1)
            if min(shape[1:], default=1) >= 0 and dtype_name(info) not in ("string", "none"):
                size += batch_size * math.prod(shape[1:]) * tf.as_dtype(info.dtype).size
        if size > _MESSAGE_BYTES:
            yield f"signature {name} answers {batch_size} rows with {size / 2**20:.1f} MiB"


def _matching(model, *patterns):
    return [op for op in model.operations if any(pattern.fullmatch(op.node.op) for pattern in patterns)]


def known_operations(model):
    graph = model.meta_graph.graph_def
    library = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for name in sorted({node.op for node in nodes} - library):
        if op_def_registry.get(name) is None:
            yield f"{name} is unknown to TensorFlow {tf.__version__}"


def cpu_kernels(model):
    first = {}
    for operation in model.operations:
        first.setdefault(operation.node.op, operation)
    for name, operation in sorted(first.items()):
        registered = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(name).kernel}
        known = name not in model.functions and op_def_registry.get(name) is not None
        if known and not registered & {"CPU", "DEFAULT"}:
            yield f"{operation} runs on {', '.join(sorted(registered)) or 'no device here'} only"


def devices(model):
    for operation in model.operations:
        if not _CPU.fullmatch(operation.node.device):
            yield f"{operation} is placed on {operation.node.device}"


def stateless_random(model):
    yield from map(str, _matching(model, _STATEFUL_RANDOM))


def no_python(model):
    yield from map(str, _matching(model, _PYTHON))


def no_xla(model):
    yield from map(str, _matching(model, _XLA))
    for name, function in model.functions.items():
        if attribute(function, "_XlaMustCompile").b:
            yield f"function {name} has jit_compile=True"
    for operation in model.operations:
        # A call of such a function has the mark too; the function has been named.
        if attribute(operation.node, "_XlaMustCompile").b and not set(_calls(operation)) & set(model.functions):
            yield f"{operation} has jit_compile=True"


def _calls(operation):
    return [value.func.name for value in operation.node.attr.values()]


def no_training(model):
    yield from map(str, _matching(model, _OPTIMIZER))
    for operation in _matching(model, _BATCH_NORM):
        # Where the attribute is left out it is true.
        if "is_training" not in operation.node.attr or operation.node.attr["is_training"].b:
            yield f"{operation} has is_training=True"


def no_state(model):
    # All but the last have a rule, and so a reason, of their own.
    others = (_STATEFUL_RANDOM, _PYTHON, _XLA, _OPTIMIZER, _KEEPS_NOTHING)
    for operation in model.operations:
        name = operation.node.op
        definition = op_def_registry.get(name)
        keeps = definition and (definition.is_stateful or any(argument.is_ref for argument in definition.input_arg))
        if keeps and not any(pattern.fullmatch(name) for pattern in others):
            yield str(operation)


def float32_variables(model):
    for operation in _matching(model, _VARIABLE):
        dtype = tf.as_dtype(operation.node.attr["dtype"].type)
        if dtype.is_floating and dtype != tf.float32:
            name = attribute(operation.node, "shared_name").s.decode() or operation.node.name
            yield f"variable {name} is {dtype.name}"


def float32_operations(model):
    """Where Keras computes in mixed precision the variables are float32 and the operations are not."""
    for dtype in (tf.float16, tf.bfloat16):
        found = [
            op
            for op in model.operations
            if not _VARIABLE.fullmatch(op.node.op)
            and any(value.type == dtype.as_datatype_enum for value in op.node.attr.values())
        ]
        if found:
            yield f"{len(found)} operations compute in {dtype.name}, such as {found[0]}"


def float64(model):
    found = [op for op in model.operations if attribute(op.node, "T").type == tf.float64.as_datatype_enum]
    if found:
        yield f"{len(found)} operations compute in float64, such as {found[0]}"
