"""The weights of a .tflite file: stored in half precision, and counted."""

import collections
import math

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from nvae_tf.export.tflite.flatbuffer import TFLiteGraph

_EMPTY_BUFFER = 0


def half_weights(content, least_weights=1000):
    """The same model with large kernels stored as float16; it computes in float32 as before.

    A DEQUANTIZE op between a stored kernel and its convolutions is what TFLite's converter writes, and what runtimes
    know. The converter would round depthwise kernels, small ones and biases too: a tenth of the weights of a large
    model, which double its largest error.

    Args:
        content: bytes of a .tflite file.
        least_weights: a kernel of fewer weights stays as it is. Default 1000.

    Returns:
        Bytes of the other.
    """
    graph = TFLiteGraph(content)
    model, tensors = graph.model, graph.subgraph.tensors
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(code)
    uses = collections.Counter(tensor.buffer for tensor in tensors)
    kernels = {int(operator.inputs[1]) for operator in _operators(graph, "CONV_2D")}
    kernels = [index for index in kernels if graph.size(index) >= least_weights and uses[tensors[index].buffer] == 1]
    casts = []
    for index in sorted(kernels):
        kernel = tensors[index]
        half, cast = schema.TensorT(), schema.OperatorT()
        half.name, half.shape, half.hasRank = kernel.name + b"/float16", kernel.shape, True
        half.type, half.buffer = schema.TensorType.FLOAT16, kernel.buffer
        cast.opcodeIndex, cast.inputs, cast.outputs = len(model.operatorCodes) - 1, [len(tensors)], [index]
        buffer = model.buffers[kernel.buffer]
        buffer.data = buffer.data.view(np.float32).astype(np.float16).view(np.uint8)
        kernel.buffer = _EMPTY_BUFFER
        tensors.append(half)
        casts.append(cast)
    graph.subgraph.operators = [*casts, *graph.operators]
    return graph.pack()


def cost(content):
    """What a .tflite file with float32 weights takes.

    Returns:
        {"parameters": stored float32 numbers, "macs": multiply-adds of its convolutions for one run}.
    """
    graph = TFLiteGraph(content)
    stored = (i for i in range(len(graph.subgraph.tensors)) if graph.is_stored(i) and graph.dtype(i) == "FLOAT32")
    # A depthwise kernel [1, kh, kw, channels] and a full one [out, kh, kw, in] are each used once at every place.
    macs = sum(
        math.prod(graph.shape(operator.outputs[0])[1:3]) * graph.size(operator.inputs[1])
        for operator in _operators(graph, "CONV_2D", "DEPTHWISE_CONV_2D")
    )
    return {"parameters": sum(map(graph.size, stored)), "macs": macs}


def _operators(graph, *names):
    return [operator for operator in graph.operators if graph.op_name(operator) in names]
