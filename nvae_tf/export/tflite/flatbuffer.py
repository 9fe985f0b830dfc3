"""A .tflite file as Python objects: its graph, its constants and its signature."""

import dataclasses
import math
import struct

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_OP_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
_NUMBERS = ("FLOAT32", "FLOAT16", "INT32")


@dataclasses.dataclass(frozen=True)
class Value:
    """An input or output of a signature.

    Attributes:
        name: in the signature.
        index: of its tensor.
        shape: tuple; -1 where it is dynamic.
        dtype: name as the schema's, such as "FLOAT32".
    """

    name: str
    index: int
    shape: tuple
    dtype: str


class TFLiteGraph:
    """The first subgraph of a .tflite file; a decoder has no other.

    Args:
        content: bytes of the file.

    Attributes:
        model: `ModelT` of the schema; `pack` writes it.
        subgraph: `SubGraphT`.
        inputs, outputs: tuples of `Value`, of the first signature, or of the graph where there is none.
        signature: the first signature's name; None where there is none.

    Raises:
        ValueError: not a TFLite file, or a damaged one.
    """

    def __init__(self, content):
        if content[4:8] != _IDENTIFIER:
            raise ValueError(f"expected a TFLite file (TFL3 at byte 4). Received: {bytes(content[4:8])!r} there")
        try:
            self.model = schema.ModelT.InitFromPackedBuf(content, 0)
            self.subgraph = self.model.subgraphs[0]
            definitions = self.model.signatureDefs
            self.signature = definitions[0].signatureKey.decode() if definitions else None
            self._names = {}
            self.inputs, self.outputs = self._values("inputs"), self._values("outputs")
            self._names = {value.index: value.name for value in (*self.inputs, *self.outputs)}
            self._check()
        # What reading a wrong offset or length raises, here and in the flatbuffers package.
        except (struct.error, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError) as error:
            raise ValueError(f"expected a whole TFLite file. Received: a damaged one ({error})") from error

    def _check(self):
        """Reads what the other methods do, so that a damaged file is found here."""
        for index in range(len(self.subgraph.tensors)):
            self.name(index), self.declared_shape(index)
            if self.is_stored(index) and self.dtype(index) in _NUMBERS:
                self.constant(index)
        for operator in self.operators:
            self.op_name(operator)
            # A variable's handle has no inputs, an assignment to it no outputs.
            operator.inputs = [] if operator.inputs is None else operator.inputs
            operator.outputs = [] if operator.outputs is None else operator.outputs
            for index in (*self.inputs_of(operator), *operator.outputs):
                self.dtype(index)

    def _values(self, side):
        if self.model.signatureDefs:
            pairs = [(v.name.decode(), v.tensorIndex) for v in getattr(self.model.signatureDefs[0], side)]
        else:
            pairs = [(self.name(index), index) for index in map(int, getattr(self.subgraph, side))]
        return tuple(Value(name, int(i), self.declared_shape(i), self.dtype(i)) for name, i in pairs)

    @property
    def operators(self):
        """`OperatorT`s in the order of execution."""
        return self.subgraph.operators or []

    def op_name(self, operator):
        """The schema's name, such as "CONV_2D"."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        # Files of before 127 ops have the number in the older field alone.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = f" {code.customCode.decode()}" if code.customCode else ""
        return _OP_NAMES[number] + custom if number in _OP_NAMES else f"op {number}"

    @staticmethod
    def inputs_of(operator):
        """Indices of the tensors that an operator reads; optional ones that are left out are not among them."""
        return [int(index) for index in operator.inputs if index >= 0]

    def name(self, index):
        """The name in the signature of an input or output, else the tensor's own."""
        return self._names.get(index) or (self._tensor(index).name or b"").decode() or f"tensor {index}"

    def dtype(self, index):
        return _TYPE_NAMES[self._tensor(index).type]

    def shape(self, index):
        shape = self._tensor(index).shape
        return () if shape is None else tuple(map(int, shape))

    def declared_shape(self, index):
        """The shape with -1 where the size is known only at run time."""
        signature = self._tensor(index).shapeSignature
        return self.shape(index) if signature is None or not len(signature) else tuple(map(int, signature))

    def is_stored(self, index):
        """Whether the tensor's value is in the file."""
        data = self.model.buffers[self._tensor(index).buffer].data
        return data is not None and len(data) > 0

    def constant(self, index):
        """Array of a stored tensor of FLOAT32, FLOAT16 or INT32."""
        dtype = np.dtype(self.dtype(index).lower())
        return self.model.buffers[self._tensor(index).buffer].data.view(dtype).reshape(self.shape(index))

    def constants(self):
        """Set of the tensors whose value does not depend on the inputs: the stored, and what is made of these alone."""
        known = {index for index in range(len(self.subgraph.tensors)) if self.is_stored(index)}
        for operator in self.operators:
            if len(operator.inputs) and known.issuperset(self.inputs_of(operator)):
                known.update(map(int, operator.outputs))
        return known

    def size(self, index):
        """Number of elements."""
        return math.prod(self.shape(index))

    def _tensor(self, index):
        return self.subgraph.tensors[index]

    def pack(self):
        """Bytes of a file with the model as it is now."""
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())
