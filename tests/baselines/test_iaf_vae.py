"""Tests of nvae_tf.baselines.iaf_vae and its configuration."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.iaf_vae import IAFVAE
from nvae_tf.config import ConfigError, config_to_dict, model_config_from_dict
from nvae_tf.config.iaf_vae import IAFVAEConfig
from nvae_tf.layers.kernels import COMPUTE_DTYPE, setting
from nvae_tf.layers.layer import without_values
from nvae_tf.models.output import ModelOutput
from tests import tiny


def _config(**overrides):
    fields = {
        "image_height": 16,
        "image_width": 8,
        "image_channels": 1,
        "likelihood": "bernoulli",
        "padding": 2,
        "num_levels": 2,
        "layers_per_level": 2,
        "channels": 4,
        "latent_channels": 2,
    }
    return IAFVAEConfig(**(fields | overrides))


@pytest.fixture(scope="module")
def model():
    """Perturbed model with flows. Shared: tests must not change it."""
    keras.utils.set_random_seed(0)
    return tiny.perturb(IAFVAE(_config(), name="iaf_vae"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 2, [4, 16, 8, 1]).astype(np.float32)


@pytest.fixture(scope="module")
def output(model, images):
    return model(images, seed=1)


def test_published_count(shipped_config):
    config = shipped_config("iaf_vae_cifar10")["get_config"]().model
    model = without_values(lambda: IAFVAE(config, name="iaf_vae"))
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == 41_557_927
    assert len({variable.path for variable in model.variables}) == len(model.variables)


def test_shapes_of_noise_and_output(model, output):
    assert model.noise_shapes(4) == [(4, 4, 2, 2)] * 2 + [(4, 8, 4, 2)] * 2
    assert [tuple(latent.shape) for latent in output.latents] == model.noise_shapes(4)
    assert output.likelihood_params.shape == (4, 16, 8, 1)
    assert output.kl_per_channel.shape == (4, 4, 2)
    np.testing.assert_allclose(tf.reduce_sum(output.kl_per_group, 1), output.log_q - output.log_p, rtol=1e-4)


def test_log_q_is_that_of_the_flow(model, output):
    # z' = (z - m) / exp(s): of the s, each is a function of other values of z, so log |det| is minus their sum.
    group = output.groups[-1]
    np.testing.assert_allclose(group.latent, (group.sample - group.shift) / np.exp(group.log_scale), rtol=1e-5)
    jacobian = tf.reduce_sum(group.log_scale, axis=(1, 2, 3))
    base = tf.reduce_sum(group.posterior.log_prob(group.sample), axis=(1, 2, 3))
    np.testing.assert_allclose(group.log_q, base + jacobian, rtol=1e-5)


def test_flow_is_autoregressive_in_reversed_raster_order(model):
    flow, shape = model.latent_layers[0].iaf, (1, 3, 3, 2)
    z = tf.random.stateless_normal(shape, [0, 0])
    context = tf.random.stateless_normal((1, 3, 3, 4), [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(z)
        outputs = tf.concat([tf.reshape(part, [-1]) for part in flow(z, context)], axis=0)
    seen = tape.jacobian(outputs, z).numpy().reshape(2, 18, 18) != 0.0
    pixel, channel = np.divmod(np.arange(18), 2)
    place = 2 * (8 - pixel) + channel
    before = place[np.newaxis, :] < place[:, np.newaxis]
    assert not np.any(seen & ~before)
    nearest = [np.flatnonzero(place == index)[0] for index in range(18)]
    assert all(seen[:, nearest[index], nearest[index - 1]].all() for index in range(1, 18, 2))


def test_decode_and_generate_return_to_the_posterior_sample(model, output):
    np.testing.assert_allclose(model.decode(output.latents), output.likelihood_params, atol=1e-5)
    noise = [(group.latent - group.prior.loc) / group.prior.scale for group in output.groups]
    np.testing.assert_allclose(model.generate(noise), output.likelihood_params, atol=1e-5)


def test_temperature_scales_the_noise_of_its_level_and_row(model):
    noise = [tf.ones(shape) for shape in model.noise_shapes(3)]
    scaled = [2.0 * eps for eps in noise[:2]] + [3.0 * eps for eps in noise[2:]]
    np.testing.assert_allclose(model.generate(noise, temperature=[2.0, 3.0]), model.generate(scaled), rtol=1e-5)
    rows = model.generate(noise, temperature=tf.constant([1.0, 2.0, 2.0]))
    np.testing.assert_allclose(rows[:1], model.generate(noise)[:1], rtol=1e-5)
    np.testing.assert_allclose(rows[1:], model.generate(noise, temperature=2.0)[1:], rtol=1e-5)


def test_generate_needs_noise_or_a_number_of_images(model):
    with pytest.raises(ValueError, match="generate: expected noise or batch_size. Received: neither"):
        model.generate()


def test_the_kl_without_free_bits_is_that_of_each_image():
    kl = np.array([[[3.0], [-1.0]], [[0.0], [2.5]]], np.float32)
    output = ModelOutput(None, kl[..., 0], None, None, kl, [None, None])
    plain = without_values(lambda: IAFVAE(_config(free_bits=0.0), name="iaf_vae"))
    total, coefficients = plain.weighted_kl(output, 0.5)
    np.testing.assert_allclose(total, [1.0, 1.25])
    np.testing.assert_allclose(coefficients, [0.5, 0.5])
    clamped = without_values(lambda: IAFVAE(_config(free_bits=1.0), name="iaf_vae"))
    total, coefficients = clamped.weighted_kl(output, 0.5)
    np.testing.assert_allclose(total, [0.5 * (1.5 + 1.0)] * 2)
    np.testing.assert_allclose(coefficients, [0.5, 0.0])


def test_colour_with_plain_posteriors_in_16_bits():
    config = _config(image_channels=3, likelihood="discretized_logistic", iaf=False, padding=0, channels=3)
    model = tiny.perturb(IAFVAE(config, name="iaf_vae"))
    images = np.random.default_rng(0).integers(0, 256, [2, 16, 8, 3]).astype(np.float32) / np.float32(255)
    full = model(images, seed=1)
    with setting(COMPUTE_DTYPE, "bfloat16"):
        half = model(images, seed=1)
    assert {half.likelihood_params.dtype, half.kl_per_group.dtype, half.latents[0].dtype} == {tf.float32}
    log_probs = [model.likelihood(one.likelihood_params).log_prob(images) for one in (full, half)]
    assert np.abs(log_probs[0] - log_probs[1]).max() > 0.0
    np.testing.assert_allclose(*log_probs, rtol=0.05)


def test_configuration_survives_json(model):
    assert model_config_from_dict(config_to_dict(model.model_config)) == model.model_config


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"family": "nvae"}, r"model\.family: expected 'iaf_vae'"),
        ({"likelihood": "normal"}, r"model\.likelihood: expected one of .* Received: 'normal'"),
        ({"image_height": 18}, r"model\.image_height: expected a multiple of 4 \(2 \*\* num_levels\)\. Received: 18"),
        ({"padding": 4}, r"model\.image_width: expected more than twice the padding of 4"),
        ({"latent_channels": 3}, r"model\.latent_channels: expected a divisor or a multiple of channels = 4"),
        ({"layers_per_level": 0}, r"model\.layers_per_level: expected at least 1"),
        ({"bit_depth": 9}, r"model\.bit_depth: expected 1 to 8"),
        ({"free_bits": -1.0}, r"model\.free_bits: expected zero or a positive number"),
    ],
)
def test_configuration_errors_name_the_field(overrides, message):
    with pytest.raises(ConfigError, match=message):
        _config(**overrides).validate()


def test_plain_posteriors_need_no_divisible_widths():
    _config(iaf=False, latent_channels=3).validate()
