"""Audit of a .tflite file in half precision (fp16): how close its numbers come to overflow, and the error.

A phone's GPU may keep weights and activations in fp16; above 65504 they become infinite, and soon NaN. Here the result
of every op is rounded, as it is when it is stored; sums within an op are float32. A GPU that fuses ops rounds less
often; one that also sums in fp16 is less exact.
"""

import math
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from nvae_tf.export.tflite.check.run import run_file
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph, unary_operator

LARGEST_HALF = float(np.finfo(np.float16).max)
# Other draws may give larger numbers than these.
SAFE_MARGIN = 4.0


class Magnitude(NamedTuple):
    """The magnitude of the largest number seen in a tensor.

    The source is "input", "weights", the op that computes the tensor, or "sum of MEAN" for what MEAN adds up before it
    divides: the sum of magnitudes, because terms of the same sign may come first.
    """

    tensor: str
    source: str
    largest: float

    @property
    def margin(self):
        """By what factor it could grow before it overflows."""
        return LARGEST_HALF / self.largest if self.largest else math.inf

    @property
    def at_risk(self):
        """Whether the margin is smaller than `SAFE_MARGIN`."""
        return not self.margin >= SAFE_MARGIN

    def __str__(self):
        risk = "AT RISK: " if self.at_risk else ""
        return f"{risk}{self.source}: {self.tensor}: {self.largest:.4g}, {self.margin:.3g} times below fp16's largest"


def audit(path, graph, inputs):
    """Runs a file as it is and with everything rounded to fp16; arguments and errors as for `run_file`.

    Returns `Magnitude`s, the largest first, and {output: `relative_error` between everything and nothing rounded}.
    """
    exact = run_file(path, graph, inputs, "reference")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "rounded.tflite"
        copy.write_bytes(rounded(pathlib.Path(path).read_bytes()))
        half = run_file(copy, graph, inputs, "reference")
    errors = {name: relative_error(half.outputs[name], value) for name, value in exact.outputs.items()}
    return sorted(_magnitudes(graph, exact), key=lambda magnitude: -magnitude.largest), errors


def relative_error(received, expected):
    """(largest, mean) difference over the largest magnitude of `expected`; infinite if either array is not finite."""
    if not (np.isfinite(received).all() and np.isfinite(expected).all()):
        return math.inf, math.inf
    difference = np.abs(received.astype(np.float64) - expected)
    # With a scale below float32's resolution, noise around an output of zeros would look like an error.
    scale = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
    return float(difference.max()) / scale, float(difference.mean()) / scale


def _magnitudes(graph, exact):
    largest = exact.largest
    for value in graph.inputs:
        yield Magnitude(value.name, "input", float(largest[value.index]))
    for index in graph.stored("FLOAT32", "FLOAT16"):
        yield Magnitude(graph.name(index), "weights", float(np.abs(graph.constant(index)).max()))
    for operator in graph.operators:
        op = graph.op_name(operator)
        for index in operator.outputs if op != "DEQUANTIZE" else ():
            if graph.dtype(index) == "FLOAT32":
                yield Magnitude(graph.name(index), op, float(largest[index]))
        if op == "MEAN":
            # Bounds every partial sum, in whatever order it adds.
            sums = float(exact.sums[operator.inputs[0]])
            yield Magnitude(graph.name(operator.outputs[0]), "sum of MEAN", sums)


def rounded(content):
    """Bytes of a .tflite file with weights, inputs and the result of every op rounded to fp16.

    Float32 constants are rounded, and each op is followed by a CAST to FLOAT16 and one back.
    """
    graph = TFLiteGraph(content)
    for index in graph.stored("FLOAT32"):
        with np.errstate(over="ignore"):
            half = graph.constant(index).astype(np.float16).astype(np.float32)
        graph.model.buffers[graph.subgraph.tensors[index].buffer].data = half.ravel().view(np.uint8)
    code, constants = graph.add_code(schema.BuiltinOperator.CAST), graph.constants()
    operators, stand_in = [], {}

    def put_casts(index):
        half, back = (graph.add_tensor(f"{dtype} of {index}", index, dtype) for dtype in ("FLOAT16", "FLOAT32"))
        operators.extend((unary_operator(code, index, half), unary_operator(code, half, back)))
        stand_in[index] = back

    for value in graph.inputs:
        if value.dtype == "FLOAT32":
            put_casts(value.index)
    for operator in graph.operators:
        operator.inputs = [stand_in.get(int(index), int(index)) for index in operator.inputs]
        operators.append(operator)
        for index in map(int, operator.outputs):
            if graph.dtype(index) == "FLOAT32" and index not in constants:
                put_casts(index)
    subgraph = graph.subgraph
    subgraph.operators = operators
    subgraph.outputs = [stand_in.get(int(index), int(index)) for index in subgraph.outputs]
    for output in graph.model.signatureDefs[0].outputs:
        output.tensorIndex = stand_in.get(int(output.tensorIndex), int(output.tensorIndex))
    return graph.pack()
