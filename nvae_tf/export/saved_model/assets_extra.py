"""The contents of an exported model's assets.extra: model card, example requests and the server's warm-up file."""

import datetime

import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.config import config_to_dict
from nvae_tf.files import file_sum

_FORMAT = 1
CARD, GOLDEN, WARM_UP = "model.json", "golden.npz", "tf_serving_warmup_requests"


def model_card(config, specs, origin, **fields):
    """The model card as a dict for JSON, from a `ModelConfig`, `Signatures.specs`, `provenance` and further fields."""
    scales = hierarchy.group_scales(config)
    sizes = [{"height": s.height, "width": s.width, "scale": s.index} for s in scales]
    return {
        "format": _FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **origin,
        "model": config_to_dict(config),
        "likelihood": config.likelihood,
        "groups": [{**size, "channels": config.latent_channels} for size in sizes],
        "signatures": {name: {kind: _tensors(specs[name][kind]) for kind in specs[name]} for name in specs},
        **fields,
    }


def _tensors(specs):
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}


def folder_checksums(folder):
    """`{path: SHA-256}` of every file in a folder except the card, with paths relative to the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}


def example_request(inputs, num_rows, images, temperature):
    """Makes a request with sensible values, the same at every call.

    `inputs` is `{name: TensorSpec}`, and the result `{name: array}`. The rows take the images, uint8 [N, H, W, C], in
    turn; image files are PNG, as bytes.
    """
    rows = np.arange(num_rows)
    values = {
        "seed": rows,
        "seed_a": rows,
        "seed_b": rows + 1,
        "alpha": (rows + 1) / (num_rows + 1),
        "temperature": np.full(num_rows, temperature),
    }
    request = {}
    for index, (name, spec) in enumerate(sorted(inputs.items())):
        if name.startswith("noise_"):
            value = np.random.default_rng(index).standard_normal((num_rows, *spec.shape[1:]))
        elif name.startswith("image"):
            pictures = images[(rows + name.endswith("_b")) % len(images)]
            value = [tf.io.encode_png(picture).numpy() for picture in pictures] if spec.dtype == tf.string else pictures
            value = value / 255.0 if spec.dtype == tf.float32 else value
        else:
            value = values[name]
        request[name] = np.asarray(value, object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
    return request


def write_warm_up(path, model_name, specs, batch_sizes, images, temperature):
    """Writes the TFRecord of requests that the server runs while it loads: each signature at each batch size."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, spec in specs.items():
            for size in batch_sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, signature
                for name, value in example_request(spec["inputs"], size, images, temperature).items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
