"""The page's JavaScript modules, run by node, against nvae_tf/export and nvae_tf/evaluation."""

import itertools
import json
import pathlib
import subprocess

import numpy as np
import pytest

from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.export.tflite import host_sampler, philox
from nvae_tf.hierarchy import PIXELS, num_mixture_pieces
from nvae_tf.models.noise import slerp
from nvae_tf.models.pixels import crop_padding

_REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
_DRIVER = pathlib.Path(__file__).with_name("functions.mjs")
_SEED, _INDEX, _MIXTURES = 2**40 + 11, 2**20 + 3, 4
_CASES = [("bernoulli", 1), ("bernoulli", 3), ("normal", 3), *(("logistic_mixture", c) for c in (1, 2, 3, 4))]


def _argument(value):
    return {str(value.dtype): value.ravel().tolist()} if isinstance(value, np.ndarray) else value


@pytest.fixture(scope="module")
def call(node):
    """Function that calls functions of the page, each (module, name, *arguments), in one process; returns results."""

    def run(*calls):
        calls = [
            {"module": module, "name": name, "arguments": [_argument(value) for value in arguments]}
            for module, name, *arguments in calls
        ]
        command = [node, _DRIVER, _REPOSITORY / "tools" / "web"]
        done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _params(likelihood, num_channels):
    sizes = {"bernoulli": num_channels, "normal": 2 * num_channels}
    size = sizes.get(likelihood, _MIXTURES * num_mixture_pieces(num_channels))
    return np.random.default_rng(num_channels).normal(scale=4.0, size=[1, 8, 8, size]).astype(np.float32)


def _values(results, *shape):
    return [np.reshape(result["value"], shape or [-1]) for result in results]


def test_random_numbers_equal_those_of_python(call):
    key = philox.row_key(_SEED, _INDEX, PIXELS)
    calls = [("rowKey", _SEED, _INDEX, PIXELS), ("randomWords", key, 1001), ("uniform", key, 1001, 1e-5, 0.9)]
    calls += [("standardNormal", key, 1001)]
    words, stream, uniforms, normals = _values(call(*(("philox.js", *call) for call in calls)))
    np.testing.assert_array_equal(words, key)
    np.testing.assert_array_equal(stream, philox.random_words(key, 1001))
    np.testing.assert_array_equal(uniforms.astype(np.float32), philox.uniform(key, [1001], 1e-5, 0.9))
    np.testing.assert_allclose(normals, philox.standard_normal(key, [1001]), rtol=0, atol=1e-6)


def test_latent_noise_equals_that_of_python(call):
    shapes = [[1, 2, 2, 3], [1, 4, 4, 1]]
    [result] = call(("host_sampler.js", "latentNoise", [12, 16], _SEED, _INDEX))
    for received, expected in zip(result["value"], host_sampler.latent_noise(shapes, _SEED, _INDEX), strict=True):
        np.testing.assert_allclose(received, expected.ravel(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("likelihood", "num_channels"), _CASES)
def test_images_equal_those_of_python(call, likelihood, num_channels):
    params = _params(likelihood, num_channels)
    described = {"kind": likelihood, "num_mixtures": _MIXTURES}
    mean, drawn = _values(
        call(
            ("host_sampler.js", "meanImage", params, described, num_channels),
            ("host_sampler.js", "drawImage", params, described, num_channels, _SEED, _INDEX),
        ),
        *(1, 8, 8, num_channels),
    )
    np.testing.assert_allclose(mean, host_sampler.mean_image(params, likelihood, num_channels), rtol=0, atol=1e-5)
    expected = host_sampler.draw_image(params, likelihood, num_channels, _SEED, _INDEX)
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-5)


# As many values as the finest groups of 256 x 256 models have, and a few.
@pytest.mark.parametrize(("fraction", "size"), [(0.0, 60), (0.3, 128 * 128 * 20), (1.0, 60)])
def test_slerp_equals_that_of_python(call, fraction, size):
    first, second = np.random.default_rng(0).normal(size=[2, size]).astype(np.float16).astype(np.float32)
    few = first[:50]
    across, along = _values(
        call(("slerp.js", "slerp", first, second, fraction), ("slerp.js", "slerp", few, 2 * few, fraction))
    )
    np.testing.assert_allclose(across, slerp([first], [second], [fraction])[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(along, slerp([few], [2 * few], [fraction])[0], rtol=0, atol=1e-5)


def test_crop_and_bytes_equal_those_of_python(call):
    image = np.random.default_rng(0).uniform(-0.2, 1.2, [8, 10, 2]).astype(np.float32)
    image.flat[:4] = np.array([0.5, 1.5, 2.5, 254.5], np.float32) / np.float32(255)
    cropped, whole, as_bytes = _values(
        call(
            ("host_sampler.js", "cropPadding", image, 4, 6, 2),
            ("host_sampler.js", "cropPadding", image, 8, 10, 0),
            ("host_sampler.js", "toUint8", image),
        )
    )
    np.testing.assert_array_equal(cropped.astype(np.float32), crop_padding(image[np.newaxis], 2).ravel())
    np.testing.assert_array_equal(whole.astype(np.float32), image.ravel())
    np.testing.assert_array_equal(as_bytes, to_uint8(image).ravel())


def test_wrong_input_is_named(call):
    calls = [("philox.js", "rowKey", seed, index) for seed, index in ((-1, 0), (1.5, 0), (2**53, 0), (0, 2**29))]
    calls += [
        ("host_sampler.js", name, _params("normal", 1), {"kind": "laplace"}, 1, 0)
        for name in ("meanImage", "drawImage")
    ]
    draw = ("drawImage", "meanImage")
    wrong = [("bernoulli", 3, 47), ("normal", 3, 45), ("normal", 1, 0), ("logistic_mixture", 3, _MIXTURES * 10 + 4)]
    for name, (kind, channels, size) in itertools.product(draw, wrong):
        described = {"kind": kind, "num_mixtures": _MIXTURES}
        calls.append(("host_sampler.js", name, np.ones(size, np.float32), described, channels, 0))
    calls.append(("host_sampler.js", "cropPadding", np.ones(63, np.float32), 4, 4, 2))
    errors = [result.get("error") for result in call(*calls)]
    assert errors[:3] == [f"seed: expected 0 to 2^53 - 1. Received: {seed}" for seed in (-1, 1.5, 2**53)]
    assert errors[3] == f"index: expected 0 to 2^29 - 1. Received: {2**29}"
    assert errors[4:6] == ["likelihood: expected one that this page can draw. Received: laplace"] * 2
    sizes = [(3, 47), (6, 45), (2, 0), (_MIXTURES * 10, _MIXTURES * 10 + 4)] * 2
    named = [f"params: expected a multiple of {size} numbers. Received: {received}" for size, received in sizes]
    assert errors[6:] == [*named, "image: expected a multiple of 64 numbers. Received: 63"]
