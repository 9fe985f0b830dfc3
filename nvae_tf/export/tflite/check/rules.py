"""Rules that find what a phone's GPU would not run, or would compute wrongly, by reading a .tflite file.

The rules are those that LiteRT's GPU delegates (ML Drift, and the classic one with its OpenGL fallback) document or
were seen to have. A file without findings may still give wrong numbers: `check.run` runs it.
"""

import dataclasses

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")
_UNARY = (
    *("EXP", "LOG", "TANH", "LOGISTIC", "ELU", "RELU", "RELU6", "RELU_N1_TO_1"),
    *("SQRT", "RSQRT", "ABS", "SQUARE", "FLOOR", "SIGN", "SOFTMAX"),
)
_SLICES = ("SLICE", "STRIDED_SLICE")
_RESIZES = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
_SHAPES = ("MEAN", "CONCATENATION", "RESHAPE", "PAD", "DEPTH_TO_SPACE", "DEQUANTIZE", *_SLICES, *_RESIZES)
ALLOWED_OPS = frozenset((*_CONVOLUTIONS, *_BINARY, *_UNARY, *_SHAPES))

# Which operands must be constant: weights and biases, axes, sizes.
_CONSTANT_OPERANDS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (1, 2)),
    "TRANSPOSE_CONV": (0, 1, 3),
    **dict.fromkeys(("MEAN", "RESHAPE", "PAD", *_RESIZES), (1,)),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "DEQUANTIZE": (0,),
}
_INSTEAD = {
    "SPLIT": "write two convolutions, or slices",
    "SPLIT_V": "write two convolutions, or slices",
    "TILE": "write keras.ops.image.resize or a broadcasting MUL",
    "SUM": "write a mean",
    "GATHER": "write slices or a constant 1x1 convolution",
    "PACK": "write CONCATENATION of slices",
    "UNPACK": "write slices",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A violation of a rule.

    Attributes:
        rule: short name of the rule.
        tensor: name of an operator's first output, or of an input or output of the graph.
        message: what was expected and what is there.
    """

    rule: str
    tensor: str
    message: str

    def __str__(self):
        return f"{self.rule}: {self.tensor}: {self.message}"


def lint_tflite(graph):
    """Checks a `TFLiteGraph` against all rules.

    Returns:
        List of `Finding`s, those of the whole file first, then in the order of execution.
    """
    constants = graph.constants()
    findings = list(_file_findings(graph, constants))
    for value in graph.inputs:
        findings += _tensor_findings(graph, value.index, constants)
    for operator in graph.operators:
        findings += _operator_findings(graph, operator, constants)
        for index in operator.outputs:
            findings += _tensor_findings(graph, index, constants, graph.inputs_of(operator))
    return findings


def _file_findings(graph, constants):
    if graph.signature is None:
        yield Finding("signature", "file", "expected a named signature. Received: none, so inputs have no stable names")
    signatures = [definition.signatureKey.decode() for definition in graph.model.signatureDefs or []]
    if len(signatures) > 1:
        yield Finding("signature", "file", f"expected one signature. Received: {', '.join(signatures)}")
    if len(graph.model.subgraphs) > max(len(signatures), 1):
        count = len(graph.model.subgraphs)
        yield Finding("subgraph", "file", f"expected one graph, without control flow. Received: {count}")
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
    dtype = graph.dtype(index)
    if len(shape) > 4:
        yield Finding("rank", name, f"expected at most 4. Received: shape {list(shape)}")
    if dtype != "FLOAT32":
        yield Finding("dtype", name, f"expected FLOAT32. Received: {dtype}")
    if -1 in declared:
        yield Finding("dynamic shape", name, f"expected sizes that the file fixes. Received: {list(declared)}")
    if index in constants:
        return
    # A batch is reported where it begins.
    known = {graph.shape(source)[:1] for source in sources if source not in constants}
    if not shape:
        yield Finding("rank", name, "expected at least 1 ([1] for a single number). Received: a scalar")
    elif shape[0] != 1 and shape[:1] not in known:
        yield Finding("batch", name, f"expected 1 as the first size. Received: shape {list(shape)}")


def _operator_findings(graph, operator, constants):
    op, inputs = graph.op_name(operator), graph.inputs_of(operator)
    name = graph.name(operator.outputs[0]) if len(operator.outputs) else "no output"

    def found(rule, message):
        return Finding(rule, name, message)

    if op not in ALLOWED_OPS:
        advice = _INSTEAD.get(op, "keep it out of the graph")
        yield found("op", f"expected one on the list. Received: {op}; {advice}")
        return
    for place in _CONSTANT_OPERANDS.get(op, ()):
        if place < len(operator.inputs) and operator.inputs[place] >= 0 and operator.inputs[place] not in constants:
            operand = graph.name(operator.inputs[place])
            yield found(
                "constant operand", f"expected {op}'s operand {place} in the file. Received: {operand}, computed"
            )
    yield from _stored_type_findings(graph, op, inputs, found)
    if op != "DEQUANTIZE" and constants.issuperset(inputs):
        yield found("folded", f"expected constants computed before. Received: {op} of constants only")
    if op in _BINARY:
        yield from _binary_findings(graph, op, inputs, constants, found)
    yield from _option_findings(graph, op, operator, inputs, found)


def _stored_type_findings(graph, op, inputs, found):
    """Weights are FLOAT32, or FLOAT16 behind DEQUANTIZE; axes, sizes and paddings are INT32."""
    allowed = ("FLOAT16",) if op == "DEQUANTIZE" else ("FLOAT32", "INT32")
    for index in filter(graph.is_stored, inputs):
        if graph.dtype(index) not in allowed:
            expected = " or ".join(allowed)
            yield found("dtype", f"expected {expected} in {graph.name(index)}. Received: {graph.dtype(index)}")
        if len(graph.shape(index)) > 4:
            yield found("rank", f"expected at most 4 in {graph.name(index)}. Received: {list(graph.shape(index))}")


def _binary_findings(graph, op, inputs, constants, found):
    one, other = map(graph.shape, inputs[:2])
    if not constants.isdisjoint(inputs):
        return
    if inputs[0] == inputs[1] and op != "MUL":
        yield found("same input", f"expected two tensors. Received: {op} of one with itself")
    if one == other:
        return
    if op != "MUL":
        yield found("broadcast", f"expected tensors of one shape for {op}. Received: {list(one)} and {list(other)}")
    elif not _is_factor(min(one, other, key=_count), max(one, other, key=_count)):
        message = "expected a factor of one number, of one for each channel, or of one for each pixel"
        yield found("broadcast", f"{message}. Received: {list(one)} and {list(other)}")


def _count(shape):
    return sum(size > 1 for size in shape)


def _is_factor(factor, shape):
    if all(size == 1 for size in factor):
        return True
    per_channel = factor[-1:] == shape[-1:] and all(size == 1 for size in factor[:-1])
    return per_channel or (factor[-1] == 1 and factor[:-1] == shape[:-1])


def _option_findings(graph, op, operator, inputs, found):
    options, rank = operator.builtinOptions, len(graph.shape(inputs[0]))
    if op in _SLICES and rank not in (3, 4):
        yield found("rank", f"expected {op} of rank 3 or 4. Received: rank {rank}")
    if op == "STRIDED_SLICE":
        masks = {
            "shrink_axis": options.shrinkAxisMask,
            "new_axis": options.newAxisMask,
            "ellipsis": options.ellipsisMask,
        }
        for mask in (mask for mask, value in masks.items() if value):
            yield found("mask", f"expected no {mask}_mask (x[..., 0:1], not x[..., 0]). Received: {masks[mask]}")
        strides = graph.constant(inputs[3]).tolist() if graph.is_stored(inputs[3]) else []
        if any(stride < 1 for stride in strides):
            yield found("stride", f"expected positive strides. Received: {strides}")
    if op == "MEAN" and graph.is_stored(inputs[1]):
        axes = graph.constant(inputs[1]).ravel().tolist()
        if rank != 4 or {axis % 4 for axis in axes} != {1, 2}:
            yield found("axes", f"expected MEAN over height and width. Received: axes {axes} of rank {rank}")
    if op in _RESIZES and options.alignCorners and options.halfPixelCenters:
        yield found("resize", "expected align_corners or half_pixel_centers. Received: both")
