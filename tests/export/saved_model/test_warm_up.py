import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from nvae_tf.export.saved_model.warm_up import example_request, write_warm_up

_SPECS = {
    "paint": {
        "inputs": {
            "image": tf.TensorSpec([None, 2, 3, 1], tf.float32),
            "image_bytes_a": tf.TensorSpec([None], tf.string),
            "image_bytes_b": tf.TensorSpec([None], tf.string),
            "noise_00": tf.TensorSpec([None, 1, 1, 2], tf.float32),
            "noise_01": tf.TensorSpec([None, 1, 1, 2], tf.float32),
            "seed": tf.TensorSpec([None], tf.int64),
            "temperature": tf.TensorSpec([None], tf.float32),
            "alpha": tf.TensorSpec([None], tf.float32),
        },
    },
    "sample": {"inputs": {"seed": tf.TensorSpec([None], tf.int64)}},
}
_IMAGES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1) * 20


def test_a_request_fits_its_signature():
    inputs = _SPECS["paint"]["inputs"]
    request = example_request(inputs, 3, _IMAGES, 0.7)
    assert set(request) == set(inputs)
    for name, value in request.items():
        tensor = tf.constant(value)
        assert inputs[name].is_compatible_with(tensor) and tensor.shape[0] == 3, name
    np.testing.assert_array_equal(request["image"], _IMAGES[[0, 1, 0]] / np.float32(255))
    assert (request["temperature"] == np.float32(0.7)).all()
    assert ((0 < request["alpha"]) & (request["alpha"] < 1)).all()
    assert not np.array_equal(request["noise_00"], request["noise_01"])
    for name, numbers in (("image_bytes_a", [0, 1, 0]), ("image_bytes_b", [1, 0, 1])):
        for file, number in zip(request[name], numbers, strict=True):
            np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(file))), _IMAGES[number, :, :, 0])
    again = example_request(inputs, 3, _IMAGES, 0.7)
    assert all(np.array_equal(again[name], value) for name, value in request.items())


def test_the_file_has_every_signature_at_every_batch_size(tmp_path):
    path = tmp_path / "requests"
    write_warm_up(path, "digits", _SPECS, (1, 3), _IMAGES, 0.7)
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.name for request in requests} == {"digits"}
    assert [(r.model_spec.signature_name, len(tf.make_ndarray(r.inputs["seed"]))) for r in requests] == [
        ("paint", 1),
        ("paint", 3),
        ("sample", 1),
        ("sample", 3),
    ]
    expected = example_request(_SPECS["paint"]["inputs"], 3, _IMAGES, 0.7)
    for name, value in expected.items():
        np.testing.assert_array_equal(tf.make_ndarray(requests[1].inputs[name]), value)


def test_more_than_the_server_reads_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_sizes: expected at most 500 of them. Received: 501"):
        write_warm_up(tmp_path / "requests", "digits", _SPECS, range(1, 502), _IMAGES, 0.7)
