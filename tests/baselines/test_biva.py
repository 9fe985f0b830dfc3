"""Tests of nvae_tf.baselines.biva and its configuration."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.biva import BIVA
from nvae_tf.baselines.biva_block import GatedBlock
from nvae_tf.config import BIVAConfig, ConfigError, config_to_dict, model_config_from_dict
from nvae_tf.layers.dropout import DROPOUT_SEED
from nvae_tf.layers.kernels import COMPUTE_DTYPE, setting
from nvae_tf.layers.layer import without_values
from nvae_tf.models.output import ModelOutput
from tests import tiny


def _config(**overrides):
    fields = {
        "image_height": 8,
        "image_width": 8,
        "channels": 4,
        "kernel_sizes": ((3,), (3,), (3,)),
        "downsampled_stages": (1, 3),
        "latent_sizes": (3, 2, 2),
        "head_kernel_sizes": (0, 3, 0),
    }
    return BIVAConfig(**(fields | overrides))


@pytest.fixture(scope="module")
def model():
    """Perturbed model with vectors and maps as latents. Shared: tests must not change it."""
    keras.utils.set_random_seed(0)
    return tiny.perturb(BIVA(_config(), name="biva"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 2, [3, 8, 8, 1]).astype(np.float32)


@pytest.fixture(scope="module")
def output(model, images):
    return model(images, seed=1)


@pytest.mark.parametrize("name, parameters", [("biva_mnist", 31_550_946), ("biva_cifar10", 102_948_560)])
def test_published_counts(shipped_config, name, parameters):
    config = shipped_config(name)["get_config"]().model
    model = without_values(lambda: BIVA(config, name="biva"))
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == parameters
    assert len({variable.path for variable in model.variables}) == len(model.variables)


def test_shapes_of_noise_and_output(model, output):
    # Generation order: the last stage, then the top-down and the bottom-up latent of each stage.
    assert model.noise_shapes(3) == [(3, 2), (3, 4, 4, 2), (3, 4, 4, 2), (3, 3), (3, 3)]
    assert [tuple(latent.shape) for latent in output.latents] == model.noise_shapes(3)
    assert output.likelihood_params.shape == (3, 8, 8, 1)
    assert output.kl_per_channel.shape == (3, 5, 3)
    np.testing.assert_array_equal(output.kl_per_channel[:, :3, 2], 0.0)
    np.testing.assert_allclose(tf.reduce_sum(output.kl_per_group, 1), output.log_q - output.log_p, rtol=1e-4)


def test_decode_and_generate_return_to_the_posterior_sample(model, output):
    np.testing.assert_allclose(model.decode(output.latents), output.likelihood_params, atol=1e-5)
    noise = [(group.latent - group.prior.loc) / group.prior.scale for group in output.groups]
    np.testing.assert_allclose(model.generate(noise), output.likelihood_params, atol=1e-5)


def test_temperature_scales_the_noise_of_its_stage_and_row(model, output):
    noise = [tf.ones(shape) for shape in model.noise_shapes(3)]
    twice = [2.0 * noise[0], *noise[1:3], *(3.0 * eps for eps in noise[3:])]
    np.testing.assert_allclose(model.generate(noise, temperature=[2.0, 1.0, 3.0]), model.generate(twice), rtol=1e-5)
    rows = model.generate(noise, temperature=tf.constant([1.0, 2.0, 2.0]))
    np.testing.assert_allclose(rows[:1], model.generate(noise)[:1], rtol=1e-5)
    np.testing.assert_allclose(rows[1:], model.generate(noise, temperature=2.0)[1:], rtol=1e-5)


def test_generate_needs_noise_or_a_number_of_images(model):
    with pytest.raises(ValueError, match="generate: expected noise or batch_size. Received: neither"):
        model.generate()


def test_free_bits_count_for_each_latent_and_image():
    model = without_values(lambda: BIVA(_config(free_bits=2.0), name="biva"))
    kl = tf.constant([[3.0, 1.0, -1.0], [0.0, 5.0, 2.5]])
    with tf.GradientTape() as tape:
        tape.watch(kl)
        total, coefficients = model.weighted_kl(ModelOutput(None, kl, None, None, None, []), 0.5)
    np.testing.assert_allclose(total, [0.5 * (3 + 2 + 2), 0.5 * (2 + 5 + 2.5)])
    np.testing.assert_allclose(coefficients, [0.25, 0.25, 0.25])
    np.testing.assert_allclose(tape.gradient(total, kl), [[0.5, 0.0, 0.0], [0.0, 0.5, 0.5]])


def test_dropout_is_a_function_of_its_seed_and_off_without_one(model, images, output):
    noise = [tf.zeros(shape) for shape in model.noise_shapes(3)]

    def params(seed):
        with setting(DROPOUT_SEED, seed and tf.constant([0, seed], tf.int64)):
            return model(images, noise=noise, training=True).likelihood_params.numpy()

    np.testing.assert_array_equal(params(None), model(images, noise=noise).likelihood_params)
    np.testing.assert_array_equal(params(1), params(1))
    assert np.abs(params(1) - params(2)).max() > 1e-3
    assert np.abs(params(1) - params(None)).max() > 1e-3


def test_every_block_has_masks_of_its_own(model):
    places = [layer.place for layer in model._flatten_layers() if isinstance(layer, GatedBlock)]
    assert len(set(places)) == len(places) == 3 * 3 + 3


def test_shortcut_takes_the_first_channels_and_the_mean_of_nine():
    block = GatedBlock(2, 3, rate=0.0, place=0, strides=2)
    x = np.random.default_rng(0).normal(size=[1, 4, 4, 3]).astype(np.float32)
    block.build(x.shape)
    block.conv2.g.assign([0.0] * 4)  # the branch is 0
    padded = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])[..., :2]
    expected = [[padded[0, i : i + 3, j : j + 3].sum((0, 1)) / 9 for j in (0, 2)] for i in (0, 2)]
    np.testing.assert_allclose(block(x)[0], expected, rtol=1e-5, atol=1e-6)


def test_colour_with_a_mixture_in_16_bits():
    config = _config(image_channels=3, likelihood="logistic_mixture", num_mixtures=2, head_kernel_sizes=(3, 3, 3))
    model = tiny.perturb(BIVA(config, name="biva"))
    images = np.random.default_rng(0).integers(0, 256, [2, 8, 8, 3]).astype(np.float32) / np.float32(255)
    full = model(images, seed=1)
    with setting(COMPUTE_DTYPE, "bfloat16"):
        half = model(images, seed=1)
    assert {half.likelihood_params.dtype, half.kl_per_group.dtype, half.latents[0].dtype} == {tf.float32}
    log_probs = [model.likelihood(one.likelihood_params).log_prob(images) for one in (full, half)]
    np.testing.assert_allclose(*log_probs, rtol=0.05)


def test_configuration_from_json_has_tuples():
    config = _config()
    values = config_to_dict(config) | {"kernel_sizes": [[3], [3], [3]], "latent_sizes": [3, 2, 2]}
    assert model_config_from_dict(values) == config


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"family": "nvae"}, r"model\.family: expected 'biva'"),
        ({"likelihood": "normal"}, r"model\.likelihood: expected one of .* Received: 'normal'"),
        ({"kernel_sizes": ()}, r"model\.kernel_sizes: expected .* Received: \(\)"),
        ({"kernel_sizes": ((3,), (3, 3), (3,))}, r"model\.kernel_sizes: expected .* as many positive ints"),
        ({"kernel_sizes": (3, 3, 3)}, r"model\.kernel_sizes: expected a tuple of at least one stage"),
        (
            {"latent_sizes": (3, 2)},
            r"model\.latent_sizes: expected a tuple of 3 ints of at least 1.* Received: \(3, 2\)",
        ),
        ({"head_kernel_sizes": (0, -1, 0)}, r"model\.head_kernel_sizes: expected a tuple of 3 ints of at least 0"),
        ({"downsampled_stages": (1, 4)}, r"model\.downsampled_stages: expected .* 1 to 3\. Received: \(1, 4\)"),
        ({"downsampled_stages": (1, 1)}, r"model\.downsampled_stages: expected a tuple of different numbers"),
        ({"image_height": 10}, r"model\.image_height: expected a multiple of 4 \(2 \*\* len\(downsampled_stages\)\)"),
        ({"padding": 4}, r"model\.image_height: expected more than twice the padding of 4"),
        ({"posterior_dropout": 1.0}, r"model\.posterior_dropout: expected at least 0 and below 1"),
        ({"free_bits": -1.0}, r"model\.free_bits: expected zero or a positive number"),
    ],
)
def test_configuration_errors_name_the_field(overrides, message):
    with pytest.raises(ConfigError, match=message):
        _config(**overrides).validate()
