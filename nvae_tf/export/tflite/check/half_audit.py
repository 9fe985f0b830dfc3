"""What half precision (fp16) does to a .tflite file: how near its numbers come to the largest, and how wrong it gets.

A phone's GPU may keep weights and activations in fp16; beyond 65504 they become infinite, and soon NaN. Here the result
of every op is rounded, as it is when it is stored; the sums inside an op are float32. A GPU that fuses ops rounds less
often, one that also sums in fp16 is less exact.
"""

import dataclasses
import math
import os
import tempfile

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from nvae_tf.export.tflite.check import run as tflite_run
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph

LARGEST_HALF = float(np.finfo(np.float16).max)
# Other draws may give larger numbers than those seen.
SAFE_MARGIN = 4.0


@dataclasses.dataclass(frozen=True)
class Magnitude:
    """The largest number seen in a tensor.

    Attributes:
        tensor: its name.
        source: "input", "weights", the op that computes it, or "sum of MEAN" for what MEAN adds up before it divides:
            the sum of magnitudes, because terms of either sign may come first.
        largest: magnitude.
    """

    tensor: str
    source: str
    largest: float

    @property
    def margin(self):
        """How many times larger it could be."""
        return LARGEST_HALF / self.largest if self.largest else math.inf

    def __str__(self):
        risk = "" if self.margin >= SAFE_MARGIN else "AT RISK: "
        return f"{risk}{self.source}: {self.tensor}: {self.largest:.4g}, {self.margin:.3g} times below fp16's largest"


@dataclasses.dataclass(frozen=True)
class HalfAudit:
    """What the audit of a file found.

    Attributes:
        magnitudes: list of `Magnitude`s, the largest first.
        errors: {output: (largest, mean) difference between all rounded and none, over the largest magnitude of the
            output}; infinite where either output is not finite.
    """

    magnitudes: list
    errors: dict

    @property
    def at_risk(self):
        """The `Magnitude`s whose margin is below `SAFE_MARGIN`."""
        return [magnitude for magnitude in self.magnitudes if not magnitude.margin >= SAFE_MARGIN]


def audit(path, graph, inputs):
    """Runs a file as it is and with everything rounded to fp16.

    Args:
        path: of the .tflite file.
        graph: its `TFLiteGraph`.
        inputs: {name: float32 array [N, *shape]}; the more draws, the surer the magnitudes.

    Returns:
        `HalfAudit`.

    Raises:
        NotAvailable, RunFailed: as `tflite_run.run`.
    """
    exact = tflite_run.run(path, graph, inputs, "reference")
    with open(path, "rb") as file:
        content = rounded(file.read())
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "rounded.tflite")
        with open(copy, "wb") as file:
            file.write(content)
        half = tflite_run.run(copy, graph, inputs, "reference")
    errors = {name: relative_error(half.outputs[name], value) for name, value in exact.outputs.items()}
    magnitudes = sorted(_magnitudes(graph, exact), key=lambda magnitude: -magnitude.largest)
    return HalfAudit(magnitudes, errors)


def relative_error(received, expected):
    """(largest, mean) difference over the largest magnitude of `expected`; infinite where either is not finite."""
    if not (np.isfinite(received).all() and np.isfinite(expected).all()):
        return math.inf, math.inf
    difference = np.abs(received.astype(np.float64) - expected)
    # A smaller scale than fp32 resolves would make noise of an output of zeros look like an error.
    scale = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
    return float(difference.max()) / scale, float(difference.mean()) / scale


def _magnitudes(graph, exact):
    largest = exact.largest
    for value in graph.inputs:
        yield Magnitude(value.name, "input", float(largest[value.index]))
    for index in range(len(graph.subgraph.tensors)):
        if graph.is_stored(index) and graph.dtype(index) in ("FLOAT32", "FLOAT16"):
            yield Magnitude(graph.name(index), "weights", float(np.abs(graph.constant(index)).max()))
    for operator in graph.operators:
        op = graph.op_name(operator)
        for index in operator.outputs if op != "DEQUANTIZE" else ():
            if graph.dtype(index) == "FLOAT32":
                yield Magnitude(graph.name(index), op, float(largest[index]))
        if op == "MEAN":
            yield Magnitude(graph.name(operator.outputs[0]), "sum of MEAN", _sum_of_mean(graph, operator, exact))


def _sum_of_mean(graph, operator, exact):
    """What no partial sum of a MEAN exceeds, in whatever order it adds."""
    source, result = operator.inputs[0], operator.outputs[0]
    terms, shape = graph.size(source) / graph.size(result), graph.shape(source)
    if len(shape) == 4 and terms == shape[1] * shape[2]:
        return float(exact.sums[source])
    # Over other axes, which the lint refuses.
    return float(exact.largest[source]) * terms


def rounded(content):
    """A .tflite file that computes what another does with weights, inputs and every op's result rounded to fp16.

    Args:
        content: bytes of the other.

    Returns:
        Bytes: the float32 constants are rounded, and after each op stand a CAST to FLOAT16 and one back.
    """
    graph = TFLiteGraph(content)
    _round_constants(graph)
    model, subgraph = graph.model, graph.subgraph
    casts, constants, stand_in = _Casts(graph), graph.constants(), {}
    operators = []
    for value in graph.inputs:
        if value.dtype == "FLOAT32":
            stand_in[value.index] = casts.round(value.index, operators)
    for operator in graph.operators:
        operator.inputs = [stand_in.get(int(index), int(index)) for index in operator.inputs]
        operators.append(operator)
        for index in map(int, operator.outputs):
            if graph.dtype(index) == "FLOAT32" and index not in constants:
                stand_in[index] = casts.round(index, operators)
    subgraph.operators = operators
    subgraph.outputs = [stand_in.get(int(index), int(index)) for index in subgraph.outputs]
    for definition in model.signatureDefs or []:
        for output in definition.outputs:
            output.tensorIndex = stand_in.get(int(output.tensorIndex), int(output.tensorIndex))
    return graph.pack()


def _round_constants(graph):
    for index in range(len(graph.subgraph.tensors)):
        if graph.is_stored(index) and graph.dtype(index) == "FLOAT32":
            with np.errstate(over="ignore"):
                half = graph.constant(index).astype(np.float16).astype(np.float32)
            graph.model.buffers[graph.subgraph.tensors[index].buffer].data = half.ravel().view(np.uint8)


class _Casts:
    """Adds the tensors and operators that round a tensor."""

    _TYPES = {"FLOAT16": schema.TensorType.FLOAT16, "FLOAT32": schema.TensorType.FLOAT32}

    def __init__(self, graph):
        self._graph = graph
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CAST
        graph.model.operatorCodes.append(code)
        self._code = len(graph.model.operatorCodes) - 1

    def round(self, index, operators):
        """Appends both casts of a tensor to `operators`; the index of the rounded one."""
        half = self._cast(index, "FLOAT32", "FLOAT16", operators)
        return self._cast(half, "FLOAT16", "FLOAT32", operators)

    def _cast(self, index, source, target, operators):
        tensors = self._graph.subgraph.tensors
        tensor, operator = schema.TensorT(), schema.OperatorT()
        tensor.shape, tensor.type = tensors[index].shape, self._TYPES[target]
        tensor.hasRank, tensor.name = True, f"{target} {len(tensors)}".encode()
        tensors.append(tensor)
        operator.opcodeIndex, operator.inputs, operator.outputs = self._code, [index], [len(tensors) - 1]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.CastOptions, schema.CastOptionsT()
        operator.builtinOptions.inDataType = self._TYPES[source]
        operator.builtinOptions.outDataType = self._TYPES[target]
        operators.append(operator)
        return len(tensors) - 1
