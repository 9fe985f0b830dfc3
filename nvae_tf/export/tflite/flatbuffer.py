"""A .tflite file as Python objects, its conversion to half-precision weights, and its cost."""

import collections
import math
import struct
import typing

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
# In Python 3.13 TensorFlow's own look-up finds __firstlineno__ for one of the numbers.
_OP_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_EMPTY_BUFFER = 0
# Kernels with fewer weights stay float32 in files with half weights.
LEAST_WEIGHTS = 1000


class Value(typing.NamedTuple):
    """An input or output of a signature, with the name that it has there."""

    name: str
    index: int  # number of its tensor
    shape: tuple  # -1 where the size is dynamic
    dtype: str  # name in the schema, such as "FLOAT32"


class TFLiteGraph:
    """The first subgraph of a .tflite file; a decoder has no other.

    Its `model` (`ModelT` of the schema) and `subgraph` (`SubGraphT`) may be changed before `pack`. `signature` is the
    name of the first signature, None if there is none; `inputs` and `outputs` are its lists of `Value`.

    Args:
        content: bytes of the file; ValueError if it is no TFLite file, or a damaged one.
    """

    def __init__(self, content):
        if content[4:8] != b"TFL3":
            raise ValueError(f"expected a TFLite file (TFL3 at byte 4). Received: {bytes(content[4:8])!r} there")
        try:
            self.model = flatbuffer_utils.convert_bytearray_to_object(content)
            self.subgraph = self.model.subgraphs[0]
            for operator in self.operators:
                # A variable's handle has no inputs, an assignment to it no outputs.
                operator.inputs = [] if operator.inputs is None else operator.inputs
                operator.outputs = [] if operator.outputs is None else operator.outputs
            self.signature, self.inputs, self.outputs = None, [], []
            if self.model.signatureDefs:
                definition = self.model.signatureDefs[0]
                self.signature = definition.signatureKey.decode()
                self.inputs, self.outputs = map(self._values, (definition.inputs, definition.outputs))
            self._names = {value.index: value.name for value in (*self.inputs, *self.outputs)}
        # What a wrong offset or length raises in the flatbuffers package.
        except (struct.error, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"expected a whole TFLite file. Received: a damaged one ({error})") from error

    def _values(self, tensor_maps):
        pairs = [(entry.name.decode(), int(entry.tensorIndex)) for entry in tensor_maps]
        return [Value(name, index, self.declared_shape(index), self.dtype(index)) for name, index in pairs]

    @property
    def operators(self):
        """`OperatorT`s in the order of execution."""
        return self.subgraph.operators or []

    def named_operators(self, *names):
        """The operators whose `op_name` is one of `names`."""
        return [operator for operator in self.operators if self.op_name(operator) in names]

    def op_name(self, operator):
        """The schema's name, such as "CONV_2D"."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        name = _OP_NAMES.get(max(code.builtinCode, code.deprecatedBuiltinCode), f"op {code.builtinCode}")
        return f"{name} {code.customCode.decode()}" if code.customCode else name

    @staticmethod
    def inputs_of(operator):
        """Numbers of the tensors that an operator reads, without optional ones that are left out."""
        return [int(index) for index in operator.inputs if index >= 0]

    def name(self, index):
        """The name of an input or output in the signature, else the tensor's own."""
        return self._names.get(index) or (self._tensor(index).name or b"").decode() or f"tensor {index}"

    def dtype(self, index):
        """Name of the type in the schema."""
        return _TYPE_NAMES[self._tensor(index).type]

    def shape(self, index):
        """Tuple of the sizes."""
        shape = self._tensor(index).shape
        return () if shape is None else tuple(map(int, shape))

    def declared_shape(self, index):
        """The shape, with -1 where the size is known only at run time."""
        signature = self._tensor(index).shapeSignature
        return self.shape(index) if signature is None or not len(signature) else tuple(map(int, signature))

    def size(self, index):
        """Number of elements."""
        return math.prod(self.shape(index))

    def stored(self, *dtypes):
        """Numbers of the tensors of these types whose value is in the file."""
        indices = range(len(self.subgraph.tensors))
        return [index for index in indices if self.dtype(index) in dtypes and self.is_stored(index)]

    def is_stored(self, index):
        """Whether the tensor's value is in the file."""
        data = self.model.buffers[self._tensor(index).buffer].data
        return data is not None and len(data) > 0

    def constant(self, index):
        """Array of a stored tensor of type FLOAT32, FLOAT16 or INT32."""
        dtype = np.dtype(self.dtype(index).lower())
        return self.model.buffers[self._tensor(index).buffer].data.view(dtype).reshape(self.shape(index))

    def constants(self):
        """Set of the tensors that do not depend on the inputs: those stored, and those computed only from them."""
        known = {index for index in range(len(self.subgraph.tensors)) if self.is_stored(index)}
        for operator in self.operators:
            if len(operator.inputs) and known.issuperset(self.inputs_of(operator)):
                known.update(map(int, operator.outputs))
        return known

    def _tensor(self, index):
        return self.subgraph.tensors[index]

    def add_code(self, builtin):
        """Adds an operator code, a number of the schema's `BuiltinOperator`; returns its index."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def add_tensor(self, name, like, dtype, buffer=_EMPTY_BUFFER):
        """Adds a tensor of the shape of tensor `like`; returns its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name.encode(), self._tensor(like).shape, True
        tensor.type, tensor.buffer = getattr(schema.TensorType, dtype), buffer
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def pack(self):
        """Returns the bytes of a file with the current model."""
        return flatbuffer_utils.convert_object_to_bytearray(self.model)


def unary_operator(code, source, result):
    """`OperatorT` with an operator code from `add_code` that computes tensor `result` from tensor `source`."""
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [source], [result]
    return operator


def half_tflite(content):
    """Stores the kernels of at least `LEAST_WEIGHTS` as float16; the model computes in float32 as before.

    As in files of TFLite's converter, and as runtimes expect, a DEQUANTIZE op stands between a stored kernel and its
    convolutions. The converter would also round depthwise kernels, small ones and biases: they are a tenth of the
    weights of a large model and double its largest error. Takes and returns the bytes of a file.
    """
    graph = TFLiteGraph(content)
    code, tensors, casts = graph.add_code(schema.BuiltinOperator.DEQUANTIZE), graph.subgraph.tensors, []
    uses = collections.Counter(tensor.buffer for tensor in tensors)
    for index in sorted({int(operator.inputs[1]) for operator in graph.named_operators("CONV_2D")}):
        kernel = tensors[index]
        if graph.size(index) < LEAST_WEIGHTS or uses[kernel.buffer] > 1:
            continue
        buffer = graph.model.buffers[kernel.buffer]
        buffer.data = buffer.data.view(np.float32).astype(np.float16).view(np.uint8)
        half = graph.add_tensor(f"{kernel.name.decode()}/float16", index, "FLOAT16", kernel.buffer)
        kernel.buffer = _EMPTY_BUFFER
        casts.append(unary_operator(code, half, index))
    graph.subgraph.operators = [*casts, *graph.operators]
    return graph.pack()


def cost(content):
    """{"parameters": float32 numbers stored in a file, "macs": multiply-adds of its convolutions for one image}."""
    graph = TFLiteGraph(content)
    # A depthwise kernel [1, kh, kw, channels] and a full one [out, kh, kw, in] are each used once at every pixel.
    macs = sum(
        math.prod(graph.shape(operator.outputs[0])[1:3]) * graph.size(operator.inputs[1])
        for operator in graph.named_operators("CONV_2D", "DEPTHWISE_CONV_2D")
    )
    return {"parameters": sum(map(graph.size, graph.stored("FLOAT32"))), "macs": macs}
