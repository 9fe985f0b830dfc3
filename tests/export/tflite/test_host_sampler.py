"""The host's pixels against those of the distributions, with the noise that these draw from their seeds."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.distributions import BernoulliLikelihood, LogisticMixtureLikelihood, NormalLikelihood
from nvae_tf.export.tflite import host_sampler
from nvae_tf.hierarchy import PIXELS, num_mixture_pieces
from nvae_tf.models import noise

_SEED, _INDEX = 2**35 + 11, 3
_KEY = noise.row_keys(_SEED, tf.constant([_INDEX], tf.int64), purpose=PIXELS)[0]
_MIXTURES = 4
_CASES = [("bernoulli", 1), ("bernoulli", 3), ("normal", 3), *(("logistic_mixture", c) for c in (1, 2, 3, 4))]


def _params(likelihood, num_channels):
    sizes = {"bernoulli": num_channels, "normal": 2 * num_channels}
    size = sizes.get(likelihood, _MIXTURES * num_mixture_pieces(num_channels))
    # Wide enough for saturated sigmoids, values that are clipped, and log scales below the least.
    return np.random.default_rng(num_channels).normal(scale=4.0, size=[1, 16, 16, size]).astype(np.float32)


def _distribution(params, likelihood, num_channels):
    if likelihood == "logistic_mixture":
        return LogisticMixtureLikelihood(params, num_channels, _MIXTURES)
    return {"bernoulli": BernoulliLikelihood, "normal": NormalLikelihood}[likelihood](params)


@pytest.mark.parametrize(("likelihood", "num_channels"), _CASES)
def test_mean_equals_that_of_the_distribution(likelihood, num_channels):
    params = _params(likelihood, num_channels)
    image = host_sampler.mean_image(params, likelihood, num_channels)
    assert image.dtype == np.float32
    expected = _distribution(params, likelihood, num_channels).mean()
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("likelihood", "num_channels"), _CASES)
def test_a_seed_draws_what_the_distribution_draws(likelihood, num_channels):
    params = _params(likelihood, num_channels)
    image = host_sampler.draw_image(params, likelihood, num_channels, _SEED, _INDEX)
    assert image.dtype == np.float32
    expected = _distribution(params, likelihood, num_channels).sample(seed=_KEY)
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)
    other = host_sampler.draw_image(params, likelihood, num_channels, _SEED, _INDEX + 1)
    assert np.mean(image != other) > 0.05


def test_latent_noise_equals_that_of_the_model():
    shapes = [[1, 2, 2, 3], [1, 4, 4, 3], [1, 4, 4, 1]]
    expected = noise.keyed_noise(shapes, noise.row_keys(_SEED, tf.constant([_INDEX], tf.int64)))
    for received, tensor in zip(host_sampler.latent_noise(shapes, _SEED, _INDEX), expected, strict=True):
        assert received.dtype == np.float32
        np.testing.assert_allclose(received, tensor, rtol=0, atol=1e-6)
    # A decoder that takes fewer groups takes the same noise for them.
    np.testing.assert_array_equal(
        host_sampler.latent_noise(shapes[:1], _SEED, _INDEX)[0], host_sampler.latent_noise(shapes, _SEED, _INDEX)[0]
    )


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"likelihood: expected one of .*Received: 'laplace'"):
        host_sampler.mean_image(np.zeros([1, 2, 2, 3]), "laplace", 3)
    for likelihood, expected in (("bernoulli", 3), ("normal", 6), ("logistic_mixture", 10)):
        message = rf"params: expected a last axis of {expected}, .* for {likelihood}.*\(1, 2, 2, 12\)"
        with pytest.raises(ValueError, match=message):
            host_sampler.draw_image(np.zeros([1, 2, 2, 12]), likelihood, 3, seed=0)


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (4, 4, 1)])
def test_only_a_single_image_is_drawn(shape):
    with pytest.raises(ValueError, match=r"params: expected \[1, H, W, P\], of one image. Received: shape"):
        host_sampler.draw_image(np.zeros(shape), "bernoulli", 1, seed=0)


def test_needs_neither_tensorflow_nor_keras():
    code = "import sys; import nvae_tf.export.tflite.host_sampler; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
