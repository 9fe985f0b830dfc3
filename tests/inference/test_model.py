"""The folded model against the training model's inference mode."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config.model import CELL_SETS
from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.torch_reader import read_checkpoint
from nvae_tf.inference.folding import fold
from nvae_tf.inference.groups import kl_per_group
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.noise import draw_noise
from tests import tiny


def _model(**fields):
    """A model whose numbers of channels are divisible by 8, which grouped convolutions need."""
    sizes = {"groups_per_scale": 1, "adaptive_groups": False, "encoder_channels": 8, "decoder_channels": 8}
    return tiny.model(8, **sizes | fields)


def _relative(received, expected):
    return float(np.max(np.abs(received - expected)) / np.max(np.abs(expected)))


def _assert_agrees(model, tolerance=1e-5):
    folded, config = InferenceModel(fold(model)), model.model_config
    noise = draw_noise(model.noise_shapes(3), 0)
    temperature = tf.constant([0.6, 1.0, 0.9])
    expected = model.generate(noise, temperature=temperature)
    assert _relative(folded.generate(noise, temperature), expected) < tolerance

    shape = (3, config.image_height, config.image_width, config.image_channels)
    images = np.random.default_rng(0).random(shape, np.float32)
    output = model(images, noise=noise)
    params, terms = folded.infer(images, noise)
    assert _relative(params, output.likelihood_params) < tolerance
    assert _relative(kl_per_group(terms), output.kl_per_group) < tolerance
    assert _relative(tf.stack([group.kl_per_channel for group in terms], 1), output.kl_per_channel) < tolerance
    for part in ("log_q", "log_p"):
        assert _relative(tf.add_n([getattr(group, part) for group in terms]), getattr(output, part)) < tolerance
    for group, latent, prior in zip(terms, output.latents, model.prior_noise(output.latents), strict=True):
        assert _relative(group.latent, latent) < tolerance
        assert _relative(group.noise, prior) < 10 * tolerance
    assert not any("Keras" in type(variable).__name__ for variable in folded.variables)
    return folded


@pytest.mark.parametrize("cell_set", CELL_SETS)
def test_every_cell_set_agrees(cell_set):
    folded = _assert_agrees(_model(cell_set=cell_set)).folded
    if cell_set == "mbconv_sep":  # seven cells; no batch norm of an inverted residual is left
        assert folded["batch norm folded into the 1x1 convolution after it"] == 7
        assert folded["batch norm folded into the convolution before it"] == 3 * 7
        assert not any("left" in name for name in folded)
    if cell_set == "res_bnswish":  # a nonlinearity follows the first of the two batch norms
        assert folded["batch norm left as a product and a sum: a nonlinearity follows"] == 7
        assert folded["batch norm folded into the convolution before it"] == 7


@pytest.mark.parametrize(
    "fields",
    [
        {"num_flows": 1, "residual_posterior": False},
        {"squeeze_excite": False, "image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2},
        {"squeeze_excite": False, "cell_set": "res_elu", "likelihood": "normal"},
        {"num_scales": 1, "num_flows": 1},
    ],
    ids=["flow", "mixture", "ungated", "one_group"],
)
def test_every_kind_of_model_agrees(fields):
    _assert_agrees(_model(**fields))


def test_without_noise_a_group_is_at_its_mean():
    """At that of the prior when it generates, at that of the posterior when it infers."""
    model = _model()
    folded, noise = InferenceModel(fold(model)), draw_noise(model.noise_shapes(2), 0)
    expected = model.generate([noise[0], tf.zeros_like(noise[1])])
    assert _relative(folded.generate([noise[0], None]), expected) < 1e-5
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    expected = model(images, noise=[tf.zeros_like(values) for values in noise])
    assert _relative(folded.infer(images)[0], expected.likelihood_params) < 1e-5


def test_statistics_are_those_at_the_time_of_folding():
    model = _model()
    before = InferenceModel(fold(model))
    for norm in model.batch_norms:
        norm.moving_variance.assign(2.0 * norm.moving_variance)
    noise = draw_noise(model.noise_shapes(2), 0)
    after = InferenceModel(fold(model)).generate(noise)
    assert _relative(after, model.generate(noise)) < 1e-5
    assert _relative(before.generate(noise), after) > 1e-3
    traced = tf.function(before.generate, autograph=False)
    traced(noise)
    before.assign(fold(model))
    np.testing.assert_allclose(traced(noise), after, rtol=1e-5, atol=1e-6)


def _channels_last(array):
    return np.moveaxis(array, 1, -1)


@pytest.mark.parametrize("name", ["mnist_small_trained", "cifar10_tiny_flow", "celeba64_tiny_5bit"])
def test_agrees_with_the_numbers_of_the_original(golden, name):
    model = InferenceModel(fold(model_from_checkpoint(read_checkpoint(golden / f"{name}.checkpoint.pt"))))
    with np.load(golden / f"{name}.expected.npz") as expected:
        noise = [_channels_last(expected[f"eps_{index}"]) for index in range(len(model.groups))]
        for temperature in (0.6, 1.0):
            params = model.generate(noise, tf.fill([len(noise[0])], temperature))
            assert _relative(params, _channels_last(expected[f"sample_logits_t{temperature}"])) < 1e-5
        params, terms = model.infer(_channels_last(expected["x"]), noise)
        assert _relative(params, _channels_last(expected["eval_logits"])) < 1e-5
        assert _relative(kl_per_group(terms), expected["eval_kl_all"]) < 1e-5
