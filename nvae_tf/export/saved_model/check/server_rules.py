"""Rules about what the server reads beside the graph: its configuration files and the warm-up requests.

See graph_rules.py for their form.
"""

import functools
import pathlib

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import DecodeError

from nvae_tf.export.saved_model.assets_extra import WARM_UP
from nvae_tf.export.saved_model.check.contents import Advice, NotChecked, NotReadableError, version_folders
from nvae_tf.export.saved_model.check.graph_rules import shape_of

try:
    from tensorflow_serving.apis import prediction_log_pb2
    from tensorflow_serving.config import model_server_config_pb2
except ImportError as error:
    needed = "tensorflow-serving-api: pip install -e '.[serve]'"
    raise ImportError(f"a SavedModel's checks and warm-up need {needed}. Received: {error}") from error

_MAX_WARM_UP_REQUESTS = 1000  # the server does not read more
_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
# Messages of servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto, which
# tensorflow-serving-api leaves out. The text format needs only the names and types of the fields.
_MESSAGES = {
    "BatchingParameters": {
        **dict.fromkeys((*_NUMBERS, "max_execution_batch_size"), 'type_name: ".google.protobuf.Int64Value"'),
        "thread_pool_name": 'type_name: ".google.protobuf.StringValue"',
        "enable_large_batch_splitting": 'type_name: ".google.protobuf.BoolValue"',
        "pad_variable_length_inputs": "type: TYPE_BOOL",
        "allowed_batch_sizes": "type: TYPE_INT64 label: LABEL_REPEATED",
    },
    "PrometheusConfig": {"enable": "type: TYPE_BOOL", "path": "type: TYPE_STRING"},
    "MonitoringConfig": {"prometheus_config": 'type_name: ".PrometheusConfig"'},
}


@functools.cache
def _message_class(message_name):
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, text) in enumerate(fields.items(), 1):
            text_format.Parse(text, message.field.add(name=field, number=number))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message_name))


def _read_config(model, name, message):
    """Reads a configuration file beside the version folders into a message."""
    path = model.base / name
    if not path.is_file():
        raise NotChecked(f"no {name} in {model.base}")
    try:
        return text_format.Parse(path.read_bytes(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise NotReadableError(f"{name}: {error}") from error


def _read_batching_parameters(model):
    return _read_config(model, "batching_parameters.txt", _message_class("BatchingParameters")())


def batching_parameters(model):
    """The server does not start with a wrong file."""
    parameters, name = _read_batching_parameters(model), "batching_parameters.txt"
    for field in _NUMBERS:
        least = 0 if field == "batch_timeout_micros" else 1
        if parameters.HasField(field) and getattr(parameters, field).value < least:
            yield f"{name}: expected {field} >= {least}. Received: {getattr(parameters, field).value}"
    sizes, largest = list(parameters.allowed_batch_sizes), parameters.max_batch_size.value
    if sizes and sizes != sorted(set(sizes)):
        yield f"{name}: expected ascending allowed_batch_sizes. Received: {sizes}"
    elif sizes and sizes[-1] != largest:
        yield f"{name}: expected the last of allowed_batch_sizes to be max_batch_size, {largest}. Received: {sizes}"
    of_card = model.card.get("allowed_batch_sizes", sizes)
    if of_card != sizes:
        yield f"{name}: expected allowed_batch_sizes as in model.json, {of_card}. Received: {sizes}"


def models_config(model):
    """The server does not start with a wrong file."""
    message = _read_config(model, "models.config", model_server_config_pb2.ModelServerConfig())
    configs = message.model_config_list.config
    if not configs:
        yield "models.config: expected model_config_list with a config"
    names = [config.name for config in configs]
    if not all(names) or len(names) > len(set(names)):
        yield f"models.config: expected a name in every config, each another. Received: {names}"
    for config in configs:
        text = f"models.config, {config.name}"
        if not config.base_path.startswith("/") and "://" not in config.base_path:
            yield f"{text}: expected an absolute base_path. Received: {config.base_path!r}"
        if config.model_platform != "tensorflow":
            yield f"{text}: expected model_platform tensorflow. Received: {config.model_platform!r}"
        if model.published and _is_of(model, config):
            for finding in _missing_versions(config, sorted(version_folders(model.base))):
                yield f"{text}: {finding}"
            if labels := ", ".join(f"{label} to {number}" for label, number in sorted(config.version_labels.items())):
                order = "add the version, wait until client.py status shows it as AVAILABLE, then move the label"
                yield Advice(f"{text}: {labels}: the server refuses a label moved to a version not yet loaded: {order}")


def _is_of(model, config):
    """Whether a config is the model's, by the name in its card or, without one, by the name of its folder."""
    name = model.card.get("name")
    return config.name == name if name else pathlib.PurePath(config.base_path).name == model.base.name


def _missing_versions(config, present):
    """Findings about the versions that a config names; `present` are those on the disk, ascending."""
    policy = config.model_version_policy
    chosen = set(policy.specific.versions)
    for version in sorted(chosen - set(present)):
        yield f"the policy names the version {version}, which is not there"
    if policy.HasField("specific"):
        served = chosen.intersection(present)
    else:
        served = present if policy.HasField("all") else present[-max(policy.latest.num_versions, 1) :]
    for version in sorted(set(config.version_labels.values()) - set(served)):
        yield f"version_labels name the version {version}, which is not served. Served: {sorted(served)}"


def monitoring_config(model):
    """The server does not start with a wrong file."""
    prometheus = _read_config(model, "monitoring.config", _message_class("MonitoringConfig")()).prometheus_config
    if prometheus.enable and not prometheus.path.startswith("/"):
        yield f"monitoring.config: expected a path that starts with /. Received: {prometheus.path!r}"


def warm_up(model):
    """What was not run at the load is slow at its first request, and a request that fails stops the load."""
    requests = _read_requests(model.path / "assets.extra" / WARM_UP)
    covered = {name: set() for name, signature in model.signatures.items() if signature.inputs}
    for index, request in enumerate(requests):
        name = request.model_spec.signature_name or "serving_default"
        signature = model.signatures.get(name)
        if signature is None:
            yield f"{WARM_UP}, record {index}: the graph has no signature {name!r}"
        elif set(request.inputs) != set(signature.inputs):
            received = f"expected the inputs {sorted(signature.inputs)}. Received: {sorted(request.inputs)}"
            yield f"{WARM_UP}, record {index}: {received}"
        else:  # Values of another dtype or shape fail when they are run.
            covered[name] |= {next(iter(shape_of(value) or ()), 0) for value in request.inputs.values()}
    try:
        allowed = set(_read_batching_parameters(model).allowed_batch_sizes)
    except (NotChecked, NotReadableError):
        allowed = set(model.card.get("allowed_batch_sizes", ()))
    for name, sizes in covered.items():
        missing = sorted(allowed - sizes)
        if missing or not sizes:
            rows = f" with the batch size {', '.join(map(str, missing))}" if missing else ""
            yield f"{WARM_UP}: no request of {name}{rows}"


def _read_requests(path):
    """List of PredictRequest of the warm-up file."""
    if not path.is_file():
        raise NotReadableError(f"expected assets.extra/{WARM_UP}")
    requests = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise DecodeError("no predict_log")
            requests.append(log.predict_log.request)
    except tf.errors.OpError as error:
        raise NotReadableError(f"{WARM_UP}: expected a TFRecord. Received: {error.message}") from error
    except DecodeError as error:
        text = f"{WARM_UP}, record {len(requests)}: expected a PredictionLog with a predict_log"
        raise NotReadableError(f"{text}. Received: {error}") from error
    if not 1 <= len(requests) <= _MAX_WARM_UP_REQUESTS:
        raise NotReadableError(f"{WARM_UP}: expected 1 to {_MAX_WARM_UP_REQUESTS} records. Received: {len(requests)}")
    return requests
