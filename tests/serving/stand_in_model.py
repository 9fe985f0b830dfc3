"""One version of a served model: a SavedModel in a TF1 Session of the C++ runtime, its batcher and its warm-up.

Names of inputs, outputs and `output_filter`: apis/predict.proto. Warm-up: apis/prediction_log.proto and
g3doc/saved_model_warmup.md. FAILED_PRECONDITION for an unknown signature and INVALID_ARGUMENT for wrong names:
servables/tensorflow/predict_util.cc; dtypes and shapes are left to the runtime. "XLA compilation disabled" is
TensorFlow's own message.

Unlike a server, it refuses a function that needs XLA at the load and not at the call.
"""

import functools

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving.stand_in_batching import Batcher


class Version:
    """A loaded version.

    Args:
        folder: pathlib.Path of the SavedModel.
        batching: `BatchingParameters`, or None to run every request by itself.

    Raises:
        tf.errors.OpError: it cannot be loaded, or a warm-up record fails.
    """

    def __init__(self, folder, batching):
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        _refuse_xla(meta_graph.graph_def)
        self.signatures = dict(meta_graph.signature_def)
        self._runs = {name: self._run(signature) for name, signature in self.signatures.items() if signature.inputs}
        self._batcher = None
        self._warm_up(folder / "assets.extra" / "tf_serving_warmup_requests")
        if batching:
            self._batcher = Batcher(batching, self._runs, lambda name, key: self.signatures[name].inputs[key].name)

    def signature(self, name):
        """The SignatureDef of a name, "" for serving_default; FAILED_PRECONDITION if there is none."""
        name = name or "serving_default"
        if name not in self._runs:
            raise tf.errors.FailedPreconditionError(None, None, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, name, inputs, output_filter=()):
        """Runs the signature `name` ("" for serving_default) on {name: array}; OpError has the code for the client."""
        signature = self.signature(name)
        _check_inputs(signature, inputs)
        if unknown := sorted(set(output_filter) - set(signature.outputs)):
            raise tf.errors.InvalidArgumentError(None, None, f"output tensor alias not found in signature: {unknown}")
        name = name or "serving_default"
        outputs = self._batcher(name, inputs) if self._batcher else self._runs[name](inputs)
        return {name: outputs[name] for name in output_filter or sorted(outputs)}

    def close(self):
        """Ends the batcher after its last answer, and the Session."""
        if self._batcher:
            self._batcher.close()
        self._session.close()

    def _run(self, signature):
        """Function {input: array} -> {output: array}."""
        inputs, outputs = sorted(signature.inputs), sorted(signature.outputs)

        # Made at the first request, as in a server, which is what a warm-up spares the first client.
        @functools.cache
        def prepared():
            # Not Session.run, whose Python checks shapes and casts. A server does neither, so that what the graph does
            # not refuse must get through here too.
            return self._session._make_callable_from_options(
                config_pb2.CallableOptions(
                    feed=[signature.inputs[name].name for name in inputs],
                    fetch=[signature.outputs[name].name for name in outputs],
                )
            )

        return lambda values: dict(zip(outputs, prepared()(*(values[name] for name in inputs)), strict=True))

    def _warm_up(self, path):
        """Replays the warm-up file. A record that fails stops the load."""
        if not path.exists():
            return
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            self.predict(request.model_spec.signature_name, arrays(request.inputs))


def arrays(protos):
    """{name: array} of {name: TensorProto}; INVALID_ARGUMENT if one is not well formed."""
    try:
        return {name: tf.make_ndarray(proto) for name, proto in protos.items()}
    except (TypeError, ValueError, KeyError) as error:
        raise tf.errors.InvalidArgumentError(None, None, f"tensor parsing error: {error}") from error


def _check_inputs(signature, inputs):
    if set(inputs) != set(signature.inputs):
        message = f"inputs: expected exactly {sorted(signature.inputs)}. Received: {sorted(inputs)}"
        raise tf.errors.InvalidArgumentError(None, None, message)


def _refuse_xla(graph_def):
    """Refuses on loading what a server refuses on a call, so that no test needs to call it."""
    compiled = [f.signature.name for f in graph_def.library.function if f.attr["_XlaMustCompile"].b]
    if compiled:
        raise tf.errors.UnimplementedError(None, None, f"XLA compilation disabled: {compiled}")
