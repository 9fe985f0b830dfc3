"""Requests that every model can answer, and the file of those that a server runs while it loads a version."""

import numpy as np
import tensorflow as tf

WARM_UP = "tf_serving_warmup_requests"
MOST_RECORDS = 1000  # the server reads no more


def example_request(inputs, num_rows, images, temperature):
    """A request with sensible values, the same at every call.

    Args:
        inputs: `{name: TensorSpec}` of a signature of `Signatures`.
        num_rows: its batch.
        images: uint8 [N, H, W, C] that rows take in turn.
        temperature: of every row.

    Returns:
        `{name: array}`; image files are bytes, PNG.
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
    """Writes a TFRecord of one request for each signature and each batch size.

    Args:
        path: of the file.
        model_name: that the requests are addressed to.
        specs: `{signature: {"inputs": {name: TensorSpec}, ...}}`.
        batch_sizes: numbers of rows.
        images, temperature: as of `example_request`.

    Raises:
        ValueError: more requests than a server reads.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    if len(specs) * len(batch_sizes) > MOST_RECORDS:
        most = MOST_RECORDS // len(specs)
        raise ValueError(f"batch_sizes: expected at most {most} of them. Received: {len(batch_sizes)}")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, spec in specs.items():
            for size in batch_sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, signature
                for name, value in example_request(spec["inputs"], size, images, temperature).items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
