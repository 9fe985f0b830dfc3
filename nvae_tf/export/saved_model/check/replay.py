"""A program: runs a SavedModel as TensorFlow Serving does, and prints what failed and how long it took, as JSON.

python -m nvae_tf.export.saved_model.check.replay VERSION_DIR

The model runs in a Session, which is that of the server, with XLA compilation disabled as there
(tensorflow/compiler/jit/flags.h). Neither Keras nor the model's own code is imported. Every request of the warm-up file
is replayed; answers to golden.npz are compared with those in the file.
"""

import ctypes
import json
import os
import pathlib
import sys
import time

import tensorflow as tf

from nvae_tf.files import plain_path
from nvae_tf.golden_answers import difference, read_npz

# What a Session raises; the last two for inputs that it does not take.
_ERRORS = (tf.errors.OpError, ValueError, TypeError)


class _Model:
    """A SavedModel in a Session of the C++ runtime."""

    def __init__(self, path):
        library = ctypes.CDLL(os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2"))
        library["_ZN10tensorflow21DisableXlaCompilationEv"]()  # tensorflow::DisableXlaCompilation()
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self.signatures = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path)).signature_def

    def run(self, signature_name, inputs):
        """Runs a signature, {name: array} to {name: array}."""
        signature = self.signatures[signature_name]
        fetches = {name: info.name for name, info in signature.outputs.items()}
        return self._session.run(fetches, {signature.inputs[name].name: value for name, value in inputs.items()})


def _on_one_line(error):
    return " ".join(str(error).split())


def _compare(model, path):
    """Findings about the answers to the requests of golden.npz."""
    for signature, (inputs, outputs) in read_npz(path).items():
        try:
            answer = model.run(signature, inputs)
        except _ERRORS as error:
            yield f"{path.name}, signature {signature}: {_on_one_line(error)}"
            continue
        if problem := difference(outputs, answer):
            yield f"{path.name}, signature {signature}: {problem}"


def _replay(model, path):
    """Findings about the requests of the warm-up file."""
    from tensorflow_serving.apis import prediction_log_pb2

    for index, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name or "serving_default"
        try:
            model.run(signature, {name: tf.make_ndarray(value) for name, value in request.inputs.items()})
        except _ERRORS as error:
            yield f"{path.name}, record {index}, signature {signature}: {_on_one_line(error)}"


def main(version_dir):
    extra = pathlib.Path(version_dir) / "assets.extra"
    start = time.perf_counter()
    try:
        with plain_path(version_dir) as path:
            model = _Model(path)
    except (*_ERRORS, OSError, RuntimeError) as error:
        return {"findings": [f"the load: {_on_one_line(error)}"]}
    loaded = time.perf_counter()
    findings = list(_replay(model, extra / "tf_serving_warmup_requests"))
    seconds = {"load": loaded - start, "warm_up": time.perf_counter() - loaded}
    if (extra / "golden.npz").is_file():
        findings += _compare(model, extra / "golden.npz")
    return {"findings": findings, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
