"""The model card, the example requests and the warm-up file of an export."""

import io
import json

import numpy as np
import PIL.Image
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from nvae_tf.config import model_config_from_dict
from nvae_tf.export.saved_model.assets_extra import example_request, write_warm_up

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


def test_the_warm_up_file_has_every_signature_at_every_batch_size(tmp_path):
    path = tmp_path / "requests"
    write_warm_up(path, "digits", _SPECS, (1, 3), _IMAGES, 0.7)
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.name for request in requests} == {"digits"}
    received = [
        (request.model_spec.signature_name, len(tf.make_ndarray(request.inputs["seed"]))) for request in requests
    ]
    assert received == [(name, size) for name in ("paint", "sample") for size in (1, 3)]
    expected = example_request(_SPECS["paint"]["inputs"], 3, _IMAGES, 0.7)
    for name, value in expected.items():
        np.testing.assert_array_equal(tf.make_ndarray(requests[1].inputs[name]), value)


_SIGNATURES = {
    "sample": ({"seed", "temperature"}, {"image", "png_bytes"}),
    "serving_default": ({"seed", "temperature"}, {"image", "png_bytes"}),
    "decode": ({"noise_00", "noise_01", "temperature"}, {"likelihood_params", "mean_image"}),
    "encode": ({"image_bytes"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "encode_pixels": ({"image"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "encode_floats": ({"image"}, {"latent_00", "latent_01", "noise_00", "noise_01", "kl_per_group"}),
    "reconstruct": ({"image_bytes", "seed", "temperature"}, {"image", "png_bytes"}),
    "interpolate": ({"image_bytes_a", "image_bytes_b", "alpha"}, {"image", "png_bytes"}),
    "interpolate_seeds": ({"seed_a", "seed_b", "alpha", "temperature"}, {"image", "png_bytes"}),
    "score": ({"image", "seed"}, {"nelbo", "bits_per_dim", "kl_per_group"}),
}


def _strict(text):
    return json.loads(text, parse_constant=lambda name: 1 / 0)  # JSON has no NaN or infinity


def test_card_says_what_a_client_needs(tiny_base, tiny_run_dir):
    extra = tiny_base / "1" / "assets.extra"
    card = _strict((extra / "model.json").read_text())
    config = _strict((tiny_run_dir / "config.json").read_text())
    assert model_config_from_dict(card["model"]) == model_config_from_dict(config["model"])
    assert (card["format"], card["name"], card["likelihood"], card["pixels"]) == (1, "nvae", "bernoulli", "mean")
    assert (card["temperature"], card["allowed_batch_sizes"], card["dataset"]) == (0.8, [1, 2], "digits")
    assert card["run"]["step"] == 7 and card["evaluation"] is None
    sizes = {key: card["image"][key] for key in ("height", "width", "channels", "bit_depth", "padding", "binarized")}
    assert sizes == {"height": 6, "width": 6, "channels": 1, "bit_depth": 8, "padding": 1, "binarized": True}
    assert "PNG or JPEG" in card["image"]["decoding"]
    assert card["groups"] == [
        {"height": 2, "width": 2, "channels": 2, "scale": 0},
        {"height": 4, "width": 4, "channels": 2, "scale": 1},
    ]
    names = {name: (set(sig["inputs"]), set(sig["outputs"])) for name, sig in card["signatures"].items()}
    assert names == _SIGNATURES
    assert card["signatures"]["decode"]["inputs"]["noise_01"] == {"dtype": "float32", "shape": [None, 4, 4, 2]}
    assert card["signatures"]["sample"]["outputs"]["png_bytes"] == {"dtype": "string", "shape": [None]}
    assert card["folded"]["batch norm folded into the convolution before it"] > 0
    assert all(figures["relative"] < 1e-5 for figures in card["parity"]["outputs"].values())
    files = {path.relative_to(extra.parent).as_posix() for path in extra.parent.rglob("*") if path.is_file()}
    assert set(card["checksums"]) == files - {"assets.extra/model.json"}
    assert card["golden"] == {"file": "golden.npz", "sha256": card["checksums"]["assets.extra/golden.npz"]}
