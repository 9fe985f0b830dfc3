"""The device graphs compute what the models compute."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import ModelConfig
from nvae_tf.distributions import image_likelihood
from nvae_tf.export.device_graph import decode_graph, encode_graph, likelihood_mean, mean_name, sample_graph
from nvae_tf.hierarchy import num_likelihood_parameters
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel


@pytest.fixture(scope="module")
def model(flow_nvae):
    return InferenceModel(fold(flow_nvae))


def _draw(graph, batch_size):
    rng = np.random.default_rng(0)
    return {
        name: rng.random([batch_size, *spec.shape[1:]], np.float32) + np.float32(name == "temperature")
        for name, spec in graph.inputs.items()
    }


@pytest.mark.parametrize(
    ("likelihood", "channels"),
    [("bernoulli", 1), ("normal", 3), *(("logistic_mixture", channels) for channels in (1, 2, 3, 4, 5))],
)
def test_mean_equals_that_of_the_distribution(likelihood, channels):
    config = ModelConfig(likelihood=likelihood, image_channels=channels, num_mixtures=3)
    # Large enough to reach every clip.
    params = 4 * np.random.default_rng(0).standard_normal([2, 8, 8, num_likelihood_parameters(config)], np.float32)
    expected = image_likelihood(config, tf.constant(params)).mean().numpy()
    assert (expected == 1.0).any() or likelihood == "bernoulli"
    np.testing.assert_allclose(likelihood_mean(config, tf.constant(params)), expected, atol=1e-6)


def test_sample_makes_the_same_latents_from_the_noise_of_encode(model):
    graph = encode_graph(model)
    inputs = _draw(graph, 2)
    encoded = graph.function(**inputs)
    expected = model.infer(inputs["image"], [v for name, v in inputs.items() if name != "image"])[0]
    assert set(encoded) == {"noise_00", "noise_01", "latent_00", "latent_01", "kl_per_group"}

    latents = {name: value for name, value in encoded.items() if name.startswith("latent")}
    decoded = decode_graph(model).function(**latents)
    noise = {name: value for name, value in encoded.items() if name.startswith("noise")}
    sampled = sample_graph(model).function(temperature=tf.ones([2]), **noise)
    for outputs in (decoded, sampled):
        np.testing.assert_allclose(outputs["likelihood_params"], expected, atol=1e-4)
        np.testing.assert_allclose(outputs["probabilities"], tf.sigmoid(expected), atol=1e-5)
    assert mean_name(model.model_config) == "probabilities"
    assert set(encode_graph(model, noise_only=True).function(**inputs)) == set(noise)


def test_groups_that_are_not_sampled_are_at_the_mean_of_their_prior(model):
    every, first = sample_graph(model), sample_graph(model, num_groups=1)
    assert list(first.inputs) == ["noise_00", "temperature"]
    inputs = _draw(every, 2)
    expected = every.function(**inputs | {"noise_01": tf.zeros_like(inputs["noise_01"])})["likelihood_params"]
    del inputs["noise_01"]
    np.testing.assert_allclose(first.function(**inputs)["likelihood_params"], expected, atol=1e-6)
    for count in (0, 3):
        with pytest.raises(ValueError, match=rf"num_groups: expected 1 to 2\. Received: {count}"):
            sample_graph(model, num_groups=count)
