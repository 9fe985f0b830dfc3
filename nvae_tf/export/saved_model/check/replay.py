"""A program: runs a SavedModel as TensorFlow Serving does, and prints what failed and how long it took, as JSON.

python -m nvae_tf.export.saved_model.check.replay VERSION_DIR

The model is loaded and run through TensorFlow's C interface, which is the C++ loader and Session of the server, with
XLA compilation disabled as in the server (tensorflow/compiler/jit/flags.h). Neither Keras nor the model's own code is
imported. Every request of the warm-up file is replayed; answers to golden.npz are compared with those in the file.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import sys
import time

import numpy as np
import tensorflow as tf

from nvae_tf.files import plain_path
from nvae_tf.golden_answers import read_npz

_TOLERANCE = 1e-4
# Another processor rounds differently, so a pixel between two levels may fall to the other side.
_PIXELS_THAT_MAY_DIFFER = 1e-3
_TSTRING_BYTES = 24


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]


class _Library:
    """The C interface (tensorflow/c/c_api.h): `library.call("TF_NewGraph")` gives a pointer unless `result` is set."""

    def __init__(self):
        self._library = ctypes.CDLL(os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2"))
        # tensorflow::DisableXlaCompilation()
        self._library["_ZN10tensorflow21DisableXlaCompilationEv"]()

    def call(self, name, *arguments, result=ctypes.c_void_p):
        function = self._library[name]
        function.restype = result
        # Python's int would be passed as a C int, which cuts pointers.
        return function(*(ctypes.c_int64(a) if isinstance(a, int) else a for a in arguments))

    @contextlib.contextmanager
    def status(self):
        """Context with a TF_Status; on exit raises RuntimeError with its message if it is not OK."""
        status = self.call("TF_NewStatus")
        yield status
        if self.call("TF_GetCode", status, result=ctypes.c_int):
            message = self.call("TF_Message", status, result=ctypes.c_char_p).decode(errors="replace")
            # On one line: the nodes, or further errors, are below the first.
            raise RuntimeError(" ".join(message.split()))

    def tensor(self, array):
        """TF_Tensor of an array; objects are strings."""
        strings = array.dtype == object
        dtype = tf.string if strings else tf.as_dtype(array.dtype)
        size = array.size * _TSTRING_BYTES if strings else array.nbytes
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self.call("TF_AllocateTensor", dtype.as_datatype_enum, shape, array.ndim, size)
        data = self.call("TF_TensorData", tensor)
        if not strings:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
        for row, value in enumerate(array.flat if strings else ()):
            self.call("TF_StringInit", data + row * _TSTRING_BYTES)
            self.call("TF_StringCopy", data + row * _TSTRING_BYTES, ctypes.c_char_p(value), len(value))
        return tensor

    def array(self, tensor):
        """Array of a TF_Tensor, which it deletes."""
        rank = self.call("TF_NumDims", tensor, result=ctypes.c_int)
        shape = [self.call("TF_Dim", tensor, axis, result=ctypes.c_int64) for axis in range(rank)]
        dtype = tf.as_dtype(self.call("TF_TensorType", tensor, result=ctypes.c_int))
        data = self.call("TF_TensorData", tensor)
        if dtype == tf.string:
            places = range(data, data + int(np.prod(shape)) * _TSTRING_BYTES, _TSTRING_BYTES)
            array = np.array([self._string(place) for place in places], object).reshape(shape)
        else:
            size = self.call("TF_TensorByteSize", tensor, result=ctypes.c_size_t)
            array = np.frombuffer(ctypes.string_at(data, size) if size else b"", dtype.as_numpy_dtype).reshape(shape)
        self.call("TF_DeleteTensor", tensor, result=None)
        return array

    def _string(self, place):
        size = self.call("TF_StringGetSize", place, result=ctypes.c_size_t)
        return ctypes.string_at(self.call("TF_StringGetDataPointer", place), size)


class _Model:
    """A SavedModel in a Session of the C++ runtime."""

    def __init__(self, path):
        self._library = _Library()
        self._graph = self._library.call("TF_NewGraph")
        options, tags, buffer = self._library.call("TF_NewSessionOptions"), (ctypes.c_char_p * 1)(b"serve"), _Buffer()
        with self._library.status() as status:
            arguments = (options, None, os.fsencode(path), tags, 1, self._graph, ctypes.byref(buffer), status)
            self._session = self._library.call("TF_LoadSessionFromSavedModel", *arguments)
        meta_graph = tf.compat.v1.MetaGraphDef.FromString(ctypes.string_at(buffer.data, buffer.length))
        self.signatures = meta_graph.signature_def

    def _places(self, infos):
        """TF_Output of each tensor, "name:index"."""
        places = (_Output * len(infos))()
        for place, info in zip(places, infos, strict=True):
            name, _, index = info.name.partition(":")
            place.operation = self._library.call("TF_GraphOperationByName", self._graph, name.encode())
            place.index = int(index)
        return places

    def run(self, signature_name, inputs):
        """Runs a signature, {name: array} to {name: array}; RuntimeError with TensorFlow's message."""
        signature, call = self.signatures[signature_name], self._library.call
        names, count = sorted(signature.outputs), len(signature.outputs)
        feeds = self._places([signature.inputs[name] for name in inputs])
        values = (ctypes.c_void_p * len(inputs))(*map(self._library.tensor, inputs.values()))
        fetches, results = self._places([signature.outputs[name] for name in names]), (ctypes.c_void_p * count)()
        arguments = (None, feeds, values, len(inputs), fetches, results, count, None, 0, None)
        with self._library.status() as status:
            call("TF_SessionRun", self._session, *arguments, status, result=None)
        for value in values:
            call("TF_DeleteTensor", value, result=None)
        return {name: self._library.array(result) for name, result in zip(names, results, strict=True)}


def _difference(received, expected):
    """The difference between two arrays, as text; empty if they agree."""
    if received.shape != expected.shape:
        return f"expected the shape {expected.shape}. Received: {received.shape}"
    if expected.dtype == object:
        # Strings that differ are image files; their pixels may be close enough.
        pairs = [(a, b) for a, b in zip(received.flat, expected.flat, strict=True) if a != b]
        pixels = [[tf.io.decode_image(string).numpy() for string in pair] for pair in pairs]
        return next(filter(None, (_difference(*pair) for pair in pixels)), "")
    if expected.dtype.kind in "iub":
        share = np.mean(received != expected)
        return f"{share:.2%} of the values differ" if share > _PIXELS_THAT_MAY_DIFFER else ""
    error = np.max(np.abs(received - expected), initial=0)
    allowed = _TOLERANCE * max(1, np.max(np.abs(expected), initial=0))
    return "" if error <= allowed else f"differs by {error:.2g}. Expected: at most {allowed:.2g}"


def _compare(model, path):
    """Findings about the answers to the requests of golden.npz."""
    for signature, (inputs, outputs) in read_npz(path).items():
        try:
            answer = model.run(signature, inputs)
        except RuntimeError as error:
            yield f"{path.name}, signature {signature}: {error}"
            continue
        for name, expected in outputs.items():
            difference = _difference(answer[name], expected)
            if difference:
                yield f"{path.name}, output {name} of {signature}: {difference}"


def _replay(model, path):
    """Findings about the requests of the warm-up file."""
    from tensorflow_serving.apis import prediction_log_pb2

    for index, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name or "serving_default"
        try:
            model.run(signature, {name: tf.make_ndarray(value) for name, value in request.inputs.items()})
        except RuntimeError as error:
            yield f"{path.name}, record {index}, signature {signature}: {error}"


def main(version_dir):
    extra = pathlib.Path(version_dir) / "assets.extra"
    start = time.perf_counter()
    try:
        with plain_path(version_dir) as path:
            model = _Model(path)
    except RuntimeError as error:
        return {"findings": [f"the C++ loader: {error}"]}
    loaded = time.perf_counter()
    findings = list(_replay(model, extra / "tf_serving_warmup_requests"))
    seconds = {"load": loaded - start, "warm_up": time.perf_counter() - loaded}
    if (extra / "golden.npz").is_file():
        findings += _compare(model, extra / "golden.npz")
    return {"findings": findings, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
