"""Tests of nvae_tf.baselines.vqvae2 and of its autoencoder."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.vq_autoencoder import CodeAutoencoder
from nvae_tf.baselines.vqvae2 import VQVAE2
from nvae_tf.config import ConfigError, TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config
from nvae_tf.evaluation.latent_files import layout
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.inference.model import refold
from nvae_tf.layers.layer import without_values
from nvae_tf.training.trainer import Trainer

SIZES = {
    "image_height": 16,
    "image_width": 16,
    "image_channels": 1,
    "likelihood": "bernoulli",
    "channels": 8,
    "residual_channels": 4,
    "residual_blocks": 1,
    "code_size": 4,
    "num_codes": 8,
    "prior_channels": 16,
    "prior_residual_channels": 4,
    "prior_kernel_size": 3,
    "prior_blocks": 1,
    "prior_residual_blocks": 1,
    "condition_channels": 4,
    "condition_blocks": 1,
}


def _model(stage="joint", **overrides):
    keras.utils.set_random_seed(0)
    return VQVAE2(VQVAE2Config(**(SIZES | overrides)), stage=stage, name="vqvae2")


def _images(count, *shape):
    return np.random.default_rng(0).integers(0, 2, (count, *(shape or (16, 16, 1)))).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return _model()


@pytest.fixture(scope="module")
def trainer():
    """A trainer at step 1, and what its codebooks were before it; it trains in bfloat16."""
    config = TrainConfig(batch_size=8, epochs=1, optimizer="adam", warmup_epochs=0.0, precision="mixed_bfloat16")
    trainer = Trainer(_model(), config, 100)
    before = [variable.numpy() for variable in trainer.model.statistics]
    assert np.isfinite(trainer.advance(tf.constant(_images(8)))["loss"])
    return trainer, before


def test_the_published_widths_have_1388867_parameters():
    def build():
        layer = CodeAutoencoder(VQVAE2Config(), 3)
        layer.build()
        return layer

    assert sum(math.prod(variable.shape) for variable in without_values(build).trainable_variables) == 1_388_867


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"family": "nvae"}, r"model\.family: expected 'vqvae2'"),
        ({"num_levels": 4}, r"model\.num_levels: expected one of \(2, 3\)\. Received: 4"),
        ({"bottom_stride": 3}, r"model\.bottom_stride: expected one of \(2, 4, 8\)\. Received: 3"),
        ({"channels": 7}, r"model\.channels: expected an even number of at least 2\. Received: 7"),
        ({"prior_channels": 8}, r"model\.prior_channels: expected a positive multiple of 16\. Received: 8"),
        ({"prior_kernel_size": 4}, r"model\.prior_kernel_size: expected an odd number of at least 3\. Received: 4"),
        ({"sigma": 0.0}, r"model\.sigma: expected a positive number\. Received: 0\.0"),
        ({"image_width": 20}, r"model\.image_width: expected a multiple of 8 \(.*\)\. Received: 20"),
        ({"padding": 8}, r"model\.image_height: expected more than twice the padding of 8\. Received: 16"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        VQVAE2Config(**(SIZES | overrides)).validate()


@pytest.mark.parametrize("stride, likelihood, outputs", [(2, "logistic_mixture", 2 * 15), (8, "normal", 4)])
def test_three_levels_any_number_of_channels_and_all_strides(stride, likelihood, outputs):
    sizes = {"image_height": 4 * stride, "image_width": 8 * stride, "image_channels": 4, "num_mixtures": 2}
    sizes |= {"num_levels": 3, "bottom_stride": stride, "likelihood": likelihood}
    model, shape = _model(**sizes), (4 * stride, 8 * stride, 4)
    output = model(_images(2, *shape), seed=0)
    assert [latent.shape[1:] for latent in output.latents] == [(1, 2, 1), (2, 4, 1), (4, 8, 1)]
    assert output.likelihood_params.shape == (2, *shape[:2], outputs)
    likelihood = model.likelihood(output.likelihood_params)
    assert likelihood.mean().shape == (2, *shape) and np.all(np.isfinite(likelihood.log_prob(_images(2, *shape))))
    assert model.generate(batch_size=2, seed=0).shape == output.likelihood_params.shape


def test_the_nelbo_is_that_of_the_codes_and_of_the_pixels_given_them(model):
    images = _images(4)
    output = model(images, seed=0)
    np.testing.assert_allclose(model.decode(output.latents), output.likelihood_params, atol=1e-5)
    codes = [tf.cast(latent[..., 0], tf.int32) for latent in output.latents]
    np.testing.assert_allclose(output.kl_per_group[:, 0], model.priors[0].nll(codes[0]), rtol=1e-5)
    np.testing.assert_allclose(output.kl_per_group[:, 1], model.priors[1].nll(codes[1], codes[0]), rtol=1e-5)
    np.testing.assert_allclose(output.log_p, -np.sum(output.kl_per_group, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(output.log_q, 0.0)


def test_the_commitment_is_part_of_the_loss_alone(model):
    output = model(_images(4), seed=0)
    added, coefficients = model.weighted_kl(output, 0.5)
    commitment = sum(group.commitment for group in output.groups)
    expected = 0.5 * np.sum(output.kl_per_group, axis=1) + 0.25 * 256 / (2 * 0.1**2) * commitment
    np.testing.assert_allclose(added, expected, rtol=1e-5)
    np.testing.assert_array_equal(coefficients, [0.5, 0.5])


def test_the_bound_with_several_samples_is_the_nelbo(model):
    result = evaluate(refold(model), [_images(4)], num_samples=5)
    assert result.nll_bound == pytest.approx(result.nelbo, rel=1e-6)


def test_images_are_functions_of_the_noise(model):
    noise = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in model.noise_shapes(4)]
    images = model.generate(noise)
    np.testing.assert_allclose(model.generate([eps[1:3] for eps in noise]), images[1:3], atol=1e-5)
    cold, per_level = model.generate(noise, temperature=0.01), model.generate(noise, temperature=[1.0, tf.ones([4])])
    np.testing.assert_allclose(per_level, images, atol=1e-5)
    assert np.any(np.abs(images - cold) > 1e-3)
    for temperature in (0.0, [1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="temperature: expected"):
            model.generate(noise, temperature=temperature)


def test_without_priors_all_codes_are_equally_likely():
    model = _model("autoencoder")
    assert not [variable.path for variable in model.variables if "prior" in variable.path]
    nats = np.log(8) * np.array([[4.0, 16.0]] * 3)
    np.testing.assert_allclose(model(_images(3), seed=0).kl_per_group, nats, rtol=1e-5)
    assert model.generate(batch_size=2, seed=0).shape == (2, 16, 16, 1)


def test_the_stage_of_the_priors_leaves_the_autoencoder_alone():
    model = _model("prior")
    assert not model.statistics and not model.data_dependent
    assert {variable.path.split("/")[1] for variable in model.trainable_variables} == {"prior_top", "prior_bottom"}
    before = [variable.numpy() for variable in model.autoencoder.variables]
    model(_images(4), seed=0, training=True)
    for variable, value in zip(model.autoencoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_keras_file_restores_the_model(model, tmp_path):
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert (other.model_config, other.stage) == (model.model_config, model.stage)
    np.testing.assert_array_equal(other(_images(2)).likelihood_params, model(_images(2)).likelihood_params)


def test_the_first_step_starts_the_codebooks_and_moves_them(trainer):
    trainer, before = trainer
    for variable, value in zip(trainer.model.statistics, before, strict=True):
        if variable.name == "count":
            # N was 1, and the batch has 8 times 4 and 8 times 16 vectors.
            expected = 0.99 * 8 + 0.01 * (32 if variable.path.endswith("top/count") else 128)
            assert np.sum(variable) == pytest.approx(expected, rel=1e-5)
        else:
            assert np.any(variable.numpy() != value)


def test_a_step_that_is_skipped_leaves_the_codebooks(trainer):
    trainer, _ = trainer
    before = [variable.numpy() for variable in trainer.model.statistics]
    images = _images(8)
    images[3, 2, 2] = np.inf
    report = trainer.advance(tf.constant(images))
    assert report["num_nonfinite"] == 1
    for variable, value in zip(trainer.model.statistics, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    trainer.advance(tf.constant(_images(8)))
    assert all(
        np.any(variable.numpy() != value) for variable, value in zip(trainer.model.statistics, before, strict=True)
    )


def test_codes_have_no_parameters_of_a_normal_to_write():
    assert set(layout(VQVAE2Config(), ["latents", "kl"])) == {"latents_00", "latents_01", "kl_per_group"}
    with pytest.raises(ValueError, match=r"--what: expected latents or kl with .* 'vqvae2'\. Received: params"):
        layout(VQVAE2Config(), ["latents", "params"])


def test_scalars(model):
    scalars = model.scalars()
    names = [f"{name}/{level}" for level in ("top", "bottom") for name in ("codes_in_use", "perplexity")]
    assert list(scalars) == names
    np.testing.assert_allclose([scalars[name] for name in names], 8.0, rtol=1e-5)
