"""Rules about what the server reads beside the graph: its configuration files and the warm-up requests.

Each is a function from a `SavedModel` to its findings. What breaks each rule, and why it is one, is in the list of
nvae_tf/export/saved_model_lint.py.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import DecodeError

from nvae_tf.export.saved_model.check.contents import version_folders
from nvae_tf.export.saved_model.check.file_rules import NotChecked
from nvae_tf.export.saved_model.check.graph_rules import dtype_name, shape_of
from nvae_tf.export.saved_model.warm_up import MOST_RECORDS, WARM_UP

try:
    from tensorflow_serving.apis import prediction_log_pb2
    from tensorflow_serving.config import model_server_config_pb2
except ImportError as error:
    raise ImportError(
        f"a SavedModel's checks and warm-up need tensorflow-serving-api: pip install -e '.[serve]'. Received: {error}"
    ) from error

# Fields of the messages that tensorflow-serving-api leaves out: servables/tensorflow/session_bundle_config.proto and
# config/monitoring_config.proto. The text format needs the names and types alone.
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


@functools.cache
def _message_class(message_name):
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields.items(), 1):
            field = message.field.add(name=field_name, number=number, label="LABEL_OPTIONAL")
            if kind.startswith("repeated "):
                field.label, kind = field.LABEL_REPEATED, kind.removeprefix("repeated ")
            if kind[0].islower():
                field.type = field.Type.Value(f"TYPE_{kind.upper()}")
            else:
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{kind}" if kind in _MESSAGES else f".google.protobuf.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message_name))


def _config(model, name, message):
    """A configuration file beside the version folders, as a message. ParseError names line and column."""
    path = model.path.parent / name
    if not path.is_file():
        raise NotChecked(f"no {name} beside the version")
    return text_format.Parse(path.read_bytes(), message)


def batching_parameters(model):
    name = "batching_parameters.txt"
    try:
        parameters = _config(model, name, _message_class("BatchingParameters")())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        yield f"{name}: {error}"
        return
    for field in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        least = 0 if field == "batch_timeout_micros" else 1
        if parameters.HasField(field) and getattr(parameters, field).value < least:
            yield f"{name}: expected {field} >= {least}. Received: {getattr(parameters, field).value}"
    sizes, largest = list(parameters.allowed_batch_sizes), parameters.max_batch_size.value
    if sizes and sizes != sorted(set(sizes)):
        yield f"{name}: expected ascending allowed_batch_sizes. Received: {sizes}"
    elif sizes and sizes[-1] != largest:
        yield f"{name}: expected the last of allowed_batch_sizes to be max_batch_size, {largest}. Received: {sizes}"
    if model.card_batch_sizes not in (None, sizes):
        yield f"{name}: expected allowed_batch_sizes as in model.json, {model.card_batch_sizes}. Received: {sizes}"


def allowed_batch_sizes(model):
    """Batch sizes that the server runs: of batching_parameters.txt, or of the model card; none without either."""
    try:
        parameters = _config(model, "batching_parameters.txt", _message_class("BatchingParameters")())
        return list(parameters.allowed_batch_sizes)
    except (NotChecked, text_format.ParseError, UnicodeDecodeError):
        return model.card_batch_sizes or []


def models_config(model):
    name = "models.config"
    try:
        message = _config(model, name, model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        yield f"{name}: {error}"
        return
    configs = message.model_config_list.config
    if not configs:
        yield f"{name}: expected model_config_list with a config"
    names = [config.name for config in configs if config.name]
    if len(names) < len(configs):
        yield f"{name}: expected a name in every config"
    if len(names) > len(set(names)):
        yield f"{name}: expected another name in every config. Received: {names}"
    for config in configs:
        if not config.base_path.startswith("/") and "://" not in config.base_path:
            yield f"{name}, {config.name}: expected an absolute base_path. Received: {config.base_path!r}"
        if config.model_platform != "tensorflow":
            yield f"{name}, {config.name}: expected model_platform tensorflow. Received: {config.model_platform!r}"
        if model.published and _is_of(model, config):
            for text in _versions(config, sorted(version_folders(model.path.parent))):
                yield f"{name}, {config.name}: {text}"


def _is_of(model, config):
    """Whether a config is the model's: by the name in its card, or, where there is none, by the name of its folder."""
    name = (model.card or {}).get("name")
    return config.name == name if name else pathlib.PurePath(config.base_path).name == model.path.parent.name


def _versions(config, present):
    """Findings about the versions that a config names; `present` are those on the disk, ascending."""
    policy = config.model_version_policy
    chosen = set(policy.specific.versions)
    for version in sorted(chosen - set(present)):
        yield f"the policy names the version {version}, which is not there"
    if policy.HasField("specific"):
        served = chosen
    else:
        served = present if policy.HasField("all") else present[-max(policy.latest.num_versions, 1) :]
    for version in sorted(set(config.version_labels.values()) - set(served)):
        yield f"version_labels name the version {version}, which is not served. Served: {sorted(served)}"


def monitoring_config(model):
    name = "monitoring.config"
    try:
        prometheus = _config(model, name, _message_class("MonitoringConfig")()).prometheus_config
    except (text_format.ParseError, UnicodeDecodeError) as error:
        yield f"{name}: {error}"
        return
    if prometheus.enable and not prometheus.path.startswith("/"):
        yield f"{name}: expected a path that starts with /. Received: {prometheus.path!r}"


# Three rules read them, and the file may be large. One model is kept, the one that is being checked.
@functools.lru_cache(maxsize=1)
def _requests(model):
    """List of PredictRequest of the warm-up file. ValueError says what is wrong with it."""
    path = model.path / "assets.extra" / WARM_UP
    if not path.is_file():
        raise ValueError(f"expected assets.extra/{WARM_UP}")
    requests = []
    try:
        for index, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise ValueError(f"{WARM_UP}, record {index}: expected a PredictionLog with a predict_log")
            requests.append(log.predict_log.request)
    except tf.errors.OpError as error:
        raise ValueError(f"{WARM_UP}: expected a TFRecord. Received: {error.message}") from error
    except DecodeError as error:
        raise ValueError(f"{WARM_UP}, record {len(requests)}: expected a PredictionLog. Received: {error}") from error
    if not 1 <= len(requests) <= MOST_RECORDS:
        raise ValueError(f"{WARM_UP}: expected 1 to {MOST_RECORDS:,} records. Received: {len(requests):,}")
    return requests


def warmup_file(model):
    try:
        _requests(model)
    except ValueError as error:
        yield str(error)


def _checked_requests(model):
    try:
        return _requests(model)
    except ValueError as error:
        raise NotChecked("no warm-up file that can be read") from error


def warmup_requests(model):
    for index, request in enumerate(_checked_requests(model)):
        text = f"{WARM_UP}, record {index}"
        signature = model.signatures.get(_signature_name(request))
        if signature is None:
            yield f"{text}: the graph has no signature {_signature_name(request)!r}"
        elif set(request.inputs) != set(signature.inputs):
            yield f"{text}: expected the inputs {sorted(signature.inputs)}. Received: {sorted(request.inputs)}"
        else:
            for name, value in sorted(request.inputs.items()):
                yield from _misfit(f"{text}, input {name}", value, signature.inputs[name])
            if len({_rows(value) for value in request.inputs.values()}) > 1:
                yield f"{text}: expected one batch size. Received: {sorted(map(_rows, request.inputs.values()))}"


def _misfit(text, value, info):
    expected, received = shape_of(info), shape_of(value)
    if dtype_name(value) != dtype_name(info):
        yield f"{text}: expected {dtype_name(info)}. Received: {dtype_name(value)}"
    elif not tf.TensorShape(info.tensor_shape).is_compatible_with(value.tensor_shape):
        yield f"{text}: expected the shape {list(expected)}. Received: {received and list(received)}"


def _signature_name(request):
    return request.model_spec.signature_name or "serving_default"


def _rows(value):
    """Number of rows of a TensorProto; 0 for a scalar."""
    return next(iter(shape_of(value) or ()), 0)


def warmup_coverage(model):
    requests = _checked_requests(model)
    covered = {(_signature_name(r), _rows(value)) for r in requests for value in r.inputs.values()}
    for name in (name for name, signature in model.signatures.items() if signature.inputs):
        sizes = {size for signature, size in covered if signature == name}
        missing = sorted(set(allowed_batch_sizes(model)) - sizes)
        if missing:
            yield f"{WARM_UP}: no request of {name} with the batch size {', '.join(map(str, missing))}"
        elif not sizes:
            yield f"{WARM_UP}: no request of {name}"


def executes(model):
    """Findings of a run in a process of its own, and the seconds of {"load", "warm_up"}, empty where they failed."""
    program = pathlib.Path(__file__).with_name("replay.py")
    # Tensor cores of GPUs would round to ten bits (TensorFloat-32), far more than the answers may differ by.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    # -P: or its folder would come first among those that modules are looked for in.
    command = [sys.executable, "-P", str(program), str(model.path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return [f"the process ended with {process.returncode}: {lines[0]}"], {}
    answer = json.loads(process.stdout.splitlines()[-1])
    return answer["findings"], answer.get("seconds", {})
