"""Rules that read a .tflite file to find what a phone's GPU would not run, or would compute wrongly.

The rules are those that LiteRT's GPU delegates (ML Drift, and the classic one with its OpenGL fallback) document or
were observed to have. A file without findings may still give wrong numbers: `check.run` runs it.
"""

from typing import NamedTuple

_BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")
_SLICES = ("SLICE", "STRIDED_SLICE")
_RESIZES = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
_ALLOWED_OPS = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"),
    *("EXP", "LOG", "TANH", "LOGISTIC", "ELU", "RELU", "RELU6", "RELU_N1_TO_1"),
    *("SQRT", "RSQRT", "ABS", "SQUARE", "FLOOR", "SIGN", "SOFTMAX"),
    *("MEAN", "CONCATENATION", "RESHAPE", "PAD", "DEPTH_TO_SPACE", "DEQUANTIZE"),
    *(*_BINARY, *_SLICES, *_RESIZES),
}
# Which operands must be constant: weights and biases, axes, sizes.
_CONSTANT_OPERANDS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (1, 2)),
    "TRANSPOSE_CONV": (0, 1, 3),
    **dict.fromkeys(("MEAN", "RESHAPE", "PAD", *_RESIZES), (1,)),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "DEQUANTIZE": (0,),
}


class Finding(NamedTuple):
    """A violation of a rule; the tensor is an operator's first output, or an input or output of the graph."""

    rule: str
    tensor: str
    message: str

    def __str__(self):
        return f"{self.rule}: {self.tensor}: {self.message}"


def lint_tflite(graph):
    """The `Finding`s of a `TFLiteGraph`, those of the whole file first, then in the order of execution."""
    constants = graph.constants()
    findings = list(_file_findings(graph, constants))
    for value in graph.inputs:
        findings += _tensor_findings(graph, value.index, constants)
    for operator in graph.operators:
        name = graph.name(operator.outputs[0]) if len(operator.outputs) else "no output"
        findings += [Finding(rule, name, message) for rule, message in _operator_findings(graph, operator, constants)]
        for index in operator.outputs:
            findings += _tensor_findings(graph, index, constants, graph.inputs_of(operator))
    return findings


def _file_findings(graph, constants):
    signatures = [definition.signatureKey.decode() for definition in graph.model.signatureDefs or []]
    if len(signatures) != 1:
        yield Finding("signature", "file", f"expected one signature. Received: {', '.join(signatures) or 'none'}")
    inputs, seen = {value.index for value in graph.inputs}, {}
    for output in graph.outputs:
        if output.index in inputs:
            yield Finding(
                "output", output.name, "expected a computed tensor. Received: an input, which is read as zeros"
            )
        elif output.index in constants:
            yield Finding("output", output.name, "expected a tensor that depends on the inputs. Received: a constant")
        elif output.index in seen:
            other = seen[output.index]
            yield Finding("output", output.name, f"expected a tensor of its own. Received: the one of output {other}")
        seen[output.index] = output.name


def _tensor_findings(graph, index, constants, sources=()):
    """Findings for a tensor that exists at run time; `sources` are the tensors that it is computed from."""
    name, shape, declared = graph.name(index), graph.shape(index), graph.declared_shape(index)
    if len(shape) > 4:
        yield Finding("rank", name, f"expected at most 4. Received: shape {list(shape)}")
    if graph.dtype(index) != "FLOAT32":
        yield Finding("dtype", name, f"expected FLOAT32. Received: {graph.dtype(index)}")
    if -1 in declared:
        yield Finding("dynamic shape", name, f"expected sizes that the file fixes. Received: {list(declared)}")
    if index in constants:
        return
    # A batch is reported only where it begins.
    known = {graph.shape(source)[:1] for source in sources if source not in constants}
    if not shape:
        yield Finding("rank", name, "expected at least 1 ([1] for a single number). Received: a scalar")
    elif shape[0] != 1 and shape[:1] not in known:
        yield Finding("batch", name, f"expected 1 as the first size. Received: shape {list(shape)}")


def _operator_findings(graph, operator, constants):
    """Pairs of a rule and a message."""
    op, inputs, options = graph.op_name(operator), graph.inputs_of(operator), operator.builtinOptions
    if op not in _ALLOWED_OPS:
        yield "op", f"expected one on the list. Received: {op}; keep it out of the graph"
        return
    for place in _CONSTANT_OPERANDS.get(op, ()):
        operand = operator.inputs[place] if place < len(operator.inputs) else -1
        if operand >= 0 and operand not in constants:
            received = f"{graph.name(operand)}, computed"
            yield "constant operand", f"expected {op}'s operand {place} in the file. Received: {received}"
    for index in filter(graph.is_stored, inputs):
        if graph.dtype(index) not in ("FLOAT32", "FLOAT16", "INT32"):
            yield "dtype", f"expected a float or INT32 in {graph.name(index)}. Received: {graph.dtype(index)}"
    if op in _BINARY and constants.isdisjoint(inputs):
        yield from _binary_findings(op, *map(graph.shape, inputs))
        if inputs[0] == inputs[1] and op != "MUL":
            yield "same input", f"expected two tensors. Received: {op} of one with itself"
    rank = len(graph.shape(inputs[0]))
    if op in _SLICES and rank not in (3, 4):
        yield "rank", f"expected {op} of rank 3 or 4. Received: rank {rank}"
    if op == "STRIDED_SLICE" and (options.shrinkAxisMask or options.newAxisMask or options.ellipsisMask):
        yield "mask", "expected x[..., 0:1]. Received: x[..., 0], or another slice that changes the rank"
    if op == "MEAN" and graph.is_stored(inputs[1]):
        axes = graph.constant(inputs[1]).ravel().tolist()
        if rank != 4 or {axis % 4 for axis in axes} != {1, 2}:
            yield "axes", f"expected MEAN over height and width. Received: axes {axes} of rank {rank}"


def _binary_findings(op, one, other):
    """Findings for a binary op of two computed tensors, given their shapes."""
    factor, shape = sorted((one, other), key=lambda sizes: sum(size > 1 for size in sizes))
    if one == other:
        return
    if op != "MUL":
        yield "broadcast", f"expected tensors of one shape for {op}. Received: {list(one)} and {list(other)}"
        return
    per_channel = factor[-1:] in ((), (1,), shape[-1:]) and all(size == 1 for size in factor[:-1])
    if not (per_channel or (factor[-1] == 1 and factor[:-1] == shape[:-1])):
        message = "expected a factor of one number, of one for each channel, or of one for each pixel"
        yield "broadcast", f"{message}. Received: {list(one)} and {list(other)}"
