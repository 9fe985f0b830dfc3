import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import CELL_SETS
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting, shared_kernels
from nvae_tf.models.noise import draw_noise
from nvae_tf.models.nvae import NVAE
from tests import tiny

# Fields of the tiny model that each case changes.
VARIANTS = {
    "flow": {"num_flows": 2},
    "absolute_posterior": {"residual_posterior": False},
    "one_group": {"num_scales": 1, "groups_per_scale": 1, "encoder_channels": 4, "decoder_channels": 8},
    "one_group_flow": {"num_scales": 1, "groups_per_scale": 1, "num_flows": 1},
    "normal_decoder": {"likelihood": "normal", "image_channels": 3},
    "grey_mixture": {"likelihood": "logistic_mixture", "num_mixtures": 3},
    "rgb_mixture_5_bits": {"likelihood": "logistic_mixture", "num_mixtures": 2, "image_channels": 3, "bit_depth": 5},
    "wide_images": {"image_width": 12, "padding": 1},
    "wider_encoder": {"encoder_channels": 8, "decoder_channels": 4},
    "wider_decoder": {"encoder_channels": 4, "decoder_channels": 8},
    "no_squeeze_excite": {"squeeze_excite": False},
    "many_cells": {"preprocess_cells": 2, "postprocess_cells": 2, "encoder_cells_per_group": 2},
    "no_blocks": {"preprocess_blocks": 0, "postprocess_blocks": 0, "image_height": 4, "image_width": 4},
}
CASES = {
    name: {"cell_set": name, "groups_per_scale": 1, "encoder_channels": 8, "decoder_channels": 8} for name in CELL_SETS
} | VARIANTS


@pytest.mark.parametrize("name", ["model", "flow_model"])
def test_the_parts_of_the_kl_add_up(request, draw, name):
    model = request.getfixturevalue(name)
    images, noise = draw(model, 3)
    output = model(images, noise=noise)
    assert output.kl_per_group.shape == (3, 3) and output.kl_per_channel.shape == (3, 3, 2)
    assert [tuple(z.shape) for z in output.latents] == [(3, 2, 2, 2), (3, 4, 4, 2), (3, 4, 4, 2)]
    np.testing.assert_allclose(tf.reduce_sum(output.kl_per_channel, 2), output.kl_per_group, rtol=1e-5, atol=1e-5)
    if name == "flow_model":
        total = tf.reduce_sum(output.kl_per_group, 1)
        np.testing.assert_allclose(total, output.log_q - output.log_p, rtol=1e-4, atol=1e-3)
    else:
        assert output.kl_per_channel.numpy().min() >= 0


def test_analytic_kl_is_the_mean_of_log_q_minus_log_p(model, draw):
    images, noise = draw(model, 2048)
    images = np.broadcast_to(images[:1], images.shape)
    output = model(images, noise=noise)
    total = tf.reduce_sum(output.kl_per_group, 1).numpy()
    difference = (output.log_q - output.log_p).numpy() - total
    standard_error = difference.std() / np.sqrt(len(difference))
    assert abs(difference.mean()) < 4 * standard_error
    # The test is precise enough to detect a wrong KL.
    assert standard_error < 0.05 * total.mean()


def test_noise_decides_the_latents_and_a_seed_decides_the_noise(model, draw):
    images, noise = draw(model, 2)
    params = [model(images, **kwargs).likelihood_params.numpy() for kwargs in ({"noise": noise},) * 2]
    np.testing.assert_array_equal(*params)
    drawn = draw_noise(model.noise_shapes(2), seed=7)
    by_seed = model(images, seed=7).likelihood_params.numpy()
    np.testing.assert_allclose(by_seed, model(images, noise=drawn).likelihood_params, rtol=1e-5, atol=1e-6)
    assert np.abs(by_seed - model(images, seed=8).likelihood_params).max() > 1e-4
    fresh = [model(images).likelihood_params.numpy() for _ in range(2)]
    assert np.abs(fresh[0] - fresh[1]).max() > 1e-4


def test_encode_and_infer_give_the_call_and_kernels_decide_what_is_computed(model, draw):
    images, noise = draw(model, 2)
    expected = model(images, noise=noise)
    output = model.infer(model.encode(images), noise)
    np.testing.assert_allclose(output.likelihood_params, expected.likelihood_params, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.kl_per_group, expected.kl_per_group, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.decode(output.latents), expected.likelihood_params, rtol=1e-5, atol=1e-5)
    zeros = [tf.zeros_like(stack.effective()) for stack in model.kernel_stacks]
    with shared_kernels(model.kernel_stacks, zeros):
        silent = model(images, noise=noise).likelihood_params.numpy()
    np.testing.assert_array_equal(silent, np.broadcast_to(silent[:1, :1, :1], silent.shape))


def test_an_image_does_not_depend_on_the_others_in_its_batch(model, draw):
    images, noise = draw(model, 3)
    together = model(images, noise=noise)
    alone = model(images[1:2], noise=[eps[1:2] for eps in noise])
    np.testing.assert_allclose(together.likelihood_params[1:2], alone.likelihood_params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together.kl_per_group[1:2], alone.kl_per_group, rtol=1e-4, atol=1e-4)


def test_generate(model, draw):
    _, noise = draw(model, 2)
    params = model.generate(noise)
    assert params.shape == (2, 8, 8, 1)
    drawn = model.generate(batch_size=2, seed=3).numpy()
    np.testing.assert_array_equal(drawn, model.generate(batch_size=2, seed=3))
    np.testing.assert_allclose(drawn, model.generate(draw_noise(model.noise_shapes(2), 3)), rtol=1e-5, atol=1e-6)
    cold = model.generate(noise, temperature=1e-6)
    np.testing.assert_allclose(cold[0], cold[1], rtol=1e-3, atol=1e-3)
    assert np.abs(params[0] - params[1]).max() > 1e-3
    tensor = model.generate(noise, temperature=tf.constant(1e-6))
    np.testing.assert_allclose(tensor, cold, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 10, 8, 1), (2, 8, 8, 3), (8, 8, 1)])
def test_images_of_a_wrong_shape_are_refused(model, shape):
    with pytest.raises(ValueError, match=re.escape("expected shape [B, 8, 8, 1]") + ".*Received"):
        model(np.zeros(shape, np.float32), seed=0)
    with pytest.raises(ValueError, match="images: expected floating-point numbers. Received: uint8"):
        model(np.zeros(shape, np.uint8), seed=0)


def test_wrong_noise_is_refused(model, draw):
    images, noise = draw(model, 2)
    with pytest.raises(ValueError, match="noise: expected 3 tensors.*Received: 2"):
        model(images, noise=noise[:-1])
    with pytest.raises(ValueError, match="noise: expected 3 tensors.*Received: 4"):
        model.generate(noise + noise[:1])
    with pytest.raises(ValueError, match=r"noise\[1\]: expected shape"):
        model(images, noise=[noise[0], noise[0], noise[2]])


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_and_no_batch_size_are_refused(model, temperature):
    with pytest.raises(ValueError, match="temperature: expected a positive"):
        model.generate(batch_size=1, temperature=temperature)
    with pytest.raises(ValueError, match="expected noise or batch_size"):
        model.generate(temperature=temperature)


@pytest.mark.parametrize("case", CASES)
def test_every_trainable_variable_gets_a_gradient(case, draw):
    keras.utils.set_random_seed(0)
    model = NVAE(tiny.model_config(8, **CASES[case]))
    images, noise = draw(model, 2)
    config = model.model_config
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        output = model(images, noise=noise, training=True)
        log_likelihood = model.likelihood(output.likelihood_params).log_prob(images)
        loss = tf.reduce_sum(output.kl_per_group) - tf.reduce_sum(log_likelihood)
    assert output.likelihood_params.shape[:3] == (2, config.image_height, config.image_width)
    assert log_likelihood.shape == (2,) and np.isfinite(loss)
    gradients = tape.gradient(loss, variables)
    paths = [variable.path for variable in model.trainable_variables]
    missing = [path for path, gradient in zip(paths, gradients, strict=True) if gradient is None]
    assert not missing
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)
    silent = [path for path, gradient in zip(paths, gradients, strict=True) if not np.any(gradient)]
    # A ReLU of squeeze-and-excitation may be inactive for both images; all other gradients must be non-zero.
    assert not [path for path in silent if "squeeze_excite" not in path]
    assert len(silent) <= 0.1 * len(paths)


def test_training_moves_every_batch_norm_and_inference_none(draw):
    model = NVAE(tiny.model_config(8))
    images, noise = draw(model, 2)
    statistics = [norm.moving_variance for norm in model.batch_norms]
    model(images, noise=noise)
    assert all(np.all(variance.numpy() == 1.0) for variance in statistics)
    model(images, noise=noise, training=True)
    assert all(np.any(variance.numpy() != 1.0) for variance in statistics)
    decoder = {id(layer) for layer in model.decoder._flatten_layers()}
    before = [variance.numpy() for variance in statistics]
    model.generate(noise, training=True)
    for norm, value in zip(model.batch_norms, before, strict=True):
        assert np.any(norm.moving_variance.numpy() != value) == (id(norm) in decoder)


def test_data_dependent_initialisation_of_res_elu(draw):
    model = NVAE(tiny.model_config(8, cell_set="res_elu"))
    images, noise = draw(model, 8)
    convolutions = [conv for conv in model.convolutions if conv.data_dependent]
    others = [conv for conv in model.convolutions if not conv.data_dependent]
    assert convolutions and others
    before = [conv.log_norm.numpy() for conv in others]
    with setting(INITIALIZING_FROM_DATA, True):
        model(images, noise=noise)
    assert all(np.abs(conv.bias.numpy()).max() > 0 for conv in convolutions)
    for conv, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(conv.log_norm, value)
