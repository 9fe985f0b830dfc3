"""gRPC to a server of TensorFlow Serving's protocol, with the official protobufs."""

import pathlib
import re

try:
    import grpc
    from google.protobuf import json_format
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2
    from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
except ImportError as error:
    raise ImportError(f"gRPC needs tensorflow-serving-api: pip install -e '.[serve]'. Received: {error}") from error
import numpy as np
import tensorflow as tf

from nvae_tf.serving.protocol import Metadata, ServerError, read_signatures, read_status


class GrpcTransport:
    """Sends single requests, without checks or retries. Threads may share it.

    Args:
        host: name or address. Default "localhost".
        port: port of gRPC. Default 8500.
        tls: `TLS`; None for no encryption. Default None.
        max_message_bytes: largest message to send or receive; gRPC's default is 4 MB. Default 256 MiB.

    Raises:
        ServerError: raised by every method if there is no answer.
    """

    def __init__(self, host="localhost", port=8500, tls=None, max_message_bytes=2**28):
        self.endpoint = f"grpc://{host}:{port}"
        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            # Before it reconnects, the channel waits a second by default and fails every request until then.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        address = f"{host}:{port}"
        if tls is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            paths = (tls.root_certs, tls.client_key, tls.client_cert)
            credentials = grpc.ssl_channel_credentials(*(path and pathlib.Path(path).read_bytes() for path in paths))
            self._channel = grpc.secure_channel(address, credentials, options)
        self._prediction, self._models = PredictionServiceStub(self._channel), ModelServiceStub(self._channel)

    def predict(self, model, signature, inputs, timeout):
        """Runs a signature.

        Args:
            model: `ModelSpec`.
            signature: its name; empty for the default signature.
            inputs: `{name: array}`; strings are object arrays of bytes.
            timeout: in seconds.

        Returns:
            Outputs, `{name: array}`.
        """
        request = predict_pb2.PredictRequest(model_spec=_model_spec(model, signature))
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._call(self._prediction.Predict, request, model, signature, timeout)
        return {name: np.asarray(tf.make_ndarray(proto)) for name, proto in response.outputs.items()}

    def metadata(self, model, timeout):
        """`Metadata` of a `ModelSpec`; `timeout` in seconds."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_model_spec(model), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request, model, None, timeout)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return Metadata(response.model_spec.version.value, read_signatures(_json(definitions)["signature_def"]))

    def status(self, model, timeout):
        """List of `VersionStatus`, the latest version first; `timeout` in seconds."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_model_spec(model))
        return read_status(_json(self._call(self._models.GetModelStatus, request, model, None, timeout)))

    def close(self):
        """Closes the connection."""
        self._channel.close()

    def _call(self, method, request, model, signature, timeout):
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            if code == "UNAVAILABLE" and re.search(r"http1\.x|parsing HTTP/2", details):
                code, details = "UNIMPLEMENTED", "an answer that is not gRPC"  # another try would not help
            raise ServerError(code, details, self.endpoint, model, signature) from error


def _model_spec(model, signature=""):
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    elif model.label:
        spec.version_label = model.label
    return spec


def _json(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
