"""The gRPC side of the stand-in: the official servicers of tensorflow_serving.apis.

Methods and messages: apis/{prediction_service,model_service,model,predict,get_model_metadata,get_model_status}.proto.
Unsourced: the code for another metadata_field or none; the longest message of an error.
"""

import concurrent.futures
import contextlib

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.stand_in_model import arrays

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE = 1024


def serve(versions, port):
    """Starts the services on a loopback port, 0 for a free one; returns (server, port)."""
    # Enough threads for the requests that wait for one another in a batch.
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(versions), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(versions), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the rest is UNIMPLEMENTED."""

    def __init__(self, versions):
        self._versions = versions

    def Predict(self, request, context):
        with _errors_go_to(context), self._versions.use(**_which(request.model_spec)) as (number, version):
            name = request.model_spec.signature_name
            outputs = version.predict(name, arrays(request.inputs), request.output_filter)
            response = predict_pb2.PredictResponse()
            response.model_spec.name = self._versions.name
            response.model_spec.version.value = number
            response.model_spec.signature_name = name or "serving_default"
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    def GetModelMetadata(self, request, context):
        with _errors_go_to(context):
            if list(request.metadata_field) != ["signature_def"]:
                message = f"metadata_field: expected signature_def. Received: {list(request.metadata_field)}"
                raise tf.errors.InvalidArgumentError(None, None, message)
            return self._versions.metadata(**_which(request.model_spec))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, versions):
        self._versions = versions

    def GetModelStatus(self, request, context):
        with _errors_go_to(context):
            status = self._versions.status(**_which(request.model_spec))
            return get_model_status_pb2.GetModelStatusResponse(model_version_status=status)


def _which(spec):
    number = spec.version.value if spec.HasField("version") else None
    return {"name": spec.name, "number": number, "label": spec.version_label}


@contextlib.contextmanager
def _errors_go_to(context):
    try:
        yield
    except tf.errors.OpError as error:
        # gRPC puts the message into a header, and clients take 8 kB of headers at most.
        context.abort(_CODES[error.error_code], error.message[:_MAX_MESSAGE])
