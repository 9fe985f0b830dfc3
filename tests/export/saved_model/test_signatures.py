"""The answers of a served model, of which each row depends only on its own row of the request."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.export.saved_model.decode_in_graph import to_model
from nvae_tf.export.saved_model.signatures import Signatures
from nvae_tf.hierarchy import numbered
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.noise import keyed_noise, row_keys
from tests import tiny

_FIELDS = {"padding": 1, "groups_per_scale": 1, "adaptive_groups": False, "encoder_channels": 8, "decoder_channels": 8}
_COLOUR = {"image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2, "bit_depth": 5, "num_flows": 1}


@pytest.fixture(scope="module")
def model():
    return tiny.model(8, **_FIELDS, **_COLOUR)


@pytest.fixture(scope="module")
def ask(model):
    """Function that calls a signature: ask("sample", seed=[1], temperature=[0.7]) -> {name: array}."""
    return _asker(Signatures(InferenceModel(fold(model))))


def _asker(signatures):
    def ask(name, **inputs):
        specs = signatures.specs[name]["inputs"]
        outputs = signatures.functions[name](**{key: tf.constant(v, specs[key].dtype) for key, v in inputs.items()})
        assert set(outputs) == set(signatures.specs[name]["outputs"])
        return {key: value.numpy() for key, value in outputs.items()}

    ask.signatures = signatures
    return ask


def test_png_files_are_the_images(ask):
    outputs = ask("sample", seed=[1, 2], temperature=[0.7, 1.0])
    for image, data in zip(outputs["image"], outputs["png_bytes"], strict=True):
        np.testing.assert_array_equal(tf.io.decode_png(data), image)


def test_a_row_depends_only_on_itself(ask):
    seeds, temperatures = [7, -3, 7, 2**62], [0.7, 1.0, 0.7, 0.5]
    together = ask("sample", seed=seeds, temperature=temperatures)["image"]
    np.testing.assert_array_equal(together[0], together[2])
    for row, (seed, temperature) in enumerate(zip(seeds, temperatures, strict=True)):
        alone = ask("sample", seed=[seed], temperature=[temperature])["image"]
        assert np.abs(alone - together[row].astype(int)).max() <= 1
    assert not np.array_equal(together[0], together[1])


def test_decode_of_the_noise_of_a_seed_is_its_sample(ask, model):
    noise = keyed_noise(model.noise_shapes(2), row_keys(tf.constant([3, 4], tf.int64), tf.zeros(2, tf.int64)))
    names = numbered("noise", model.model_config)
    outputs = ask("decode", temperature=[0.7, 0.9], **dict(zip(names, noise, strict=True)))
    expected = model.generate(noise, temperature=tf.constant([0.7, 0.9]))
    np.testing.assert_allclose(outputs["likelihood_params"], expected, rtol=1e-4, atol=1e-4)
    images = ask("sample", seed=[3, 4], temperature=[0.7, 0.9])["image"]
    assert np.abs(images - 255 * outputs["mean_image"]).max() <= 0.51


def test_the_encodings_of_one_image_are_one(ask):
    drawn = ask("sample", seed=[1, 2], temperature=[1.0, 1.0])
    first = ask("encode_pixels", image=drawn["image"])
    for other in (
        ask("encode", image_bytes=drawn["png_bytes"]),
        ask("encode_floats", image=drawn["image"] / np.float32(255)),
    ):
        for name, value in first.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-5)


def test_encoded_noise_decodes_to_the_posterior_means(ask, model):
    image = ask("sample", seed=[1, 2], temperature=[1.0, 1.0])["image"]
    outputs = ask("encode_pixels", image=image)
    noise = {name: value for name, value in outputs.items() if name.startswith("noise")}
    params = ask("decode", temperature=[1.0, 1.0], **noise)["likelihood_params"]
    seen = to_model(tf.constant(image), model.model_config, binarize=False)
    expected = model(seen, noise=[tf.zeros(shape) for shape in model.noise_shapes(2)])
    np.testing.assert_allclose(params, expected.likelihood_params, rtol=1e-3, atol=1e-3)
    latents = [outputs[name] for name in numbered("latent", model.model_config)]
    for received, latent in zip(latents, expected.latents, strict=True):
        np.testing.assert_allclose(received, latent, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["kl_per_group"], expected.kl_per_group, rtol=1e-4, atol=1e-3)


def test_reconstruct_and_score_follow_the_seed(ask, model):
    drawn = ask("sample", seed=[1, 2], temperature=[1.0, 1.0])
    seeds = tf.constant([8, 9], tf.int64)
    noise = keyed_noise(model.noise_shapes(2), row_keys(seeds, tf.zeros(2, tf.int64)))
    seen = to_model(tf.constant(drawn["image"]), model.model_config, binarize=False)
    output = model(seen, noise=noise)
    likelihood = model.likelihood(output.likelihood_params)
    nelbo = tf.reduce_sum(output.kl_per_group, 1) - likelihood.log_prob(seen)

    scored = ask("score", image=drawn["image"], seed=seeds)
    np.testing.assert_allclose(scored["nelbo"], nelbo, rtol=1e-4)
    np.testing.assert_allclose(scored["bits_per_dim"], nelbo / (6 * 6 * 3 * np.log(2)), rtol=1e-4)
    np.testing.assert_allclose(scored["kl_per_group"], output.kl_per_group, rtol=1e-3, atol=1e-3)

    image = ask("reconstruct", image_bytes=drawn["png_bytes"], seed=seeds, temperature=[1.0, 1.0])["image"]
    assert np.abs(image - 255 * likelihood.mean().numpy()[:, 1:-1, 1:-1]).max() <= 0.51
    calmer = ask("reconstruct", image_bytes=drawn["png_bytes"], seed=seeds, temperature=[0.1, 0.1])["image"]
    assert not np.array_equal(calmer, image)


def test_interpolations_begin_and_end_at_their_ends(ask):
    ends = ask("sample", seed=[1, 2], temperature=[0.7, 0.7])
    way = ask(
        "interpolate_seeds", seed_a=[1, 1, 1], seed_b=[2, 2, 2], alpha=[0.0, 0.5, 1.0], temperature=[0.7, 0.7, 0.7]
    )["image"]
    assert np.abs(way[[0, 2]] - ends["image"].astype(int)).max() <= 1
    assert not np.array_equal(way[1], way[0])

    files = ends["png_bytes"]
    way = ask("interpolate", image_bytes_a=files[[0, 0]], image_bytes_b=files[[1, 1]], alpha=[0.0, 1.0])["image"]
    noise = {k: v for k, v in ask("encode", image_bytes=files).items() if k.startswith("noise")}
    expected = 255 * ask("decode", temperature=[1.0, 1.0], **noise)["mean_image"]
    assert np.abs(way - expected).max() <= 1.01


_IMAGE = np.zeros((2, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    "signature, inputs, message",
    [
        ("sample", {"seed": [1, 2], "temperature": [1.0, 0.0]}, "temperature: expected a positive"),
        ("sample", {"seed": [1], "temperature": [np.nan]}, "temperature: expected a positive"),
        ("sample", {"seed": [1, 2], "temperature": [1.0]}, "seed, temperature: expected equally many rows"),
        ("encode_floats", {"image": _IMAGE * np.nan}, r"image: expected values in \[0, 1\]"),
        (
            "interpolate_seeds",
            {"seed_a": [1], "seed_b": [2], "alpha": [1.5], "temperature": [1.0]},
            "alpha: expected a number from 0 to 1",
        ),
        ("interpolate", {"image_bytes_a": [b""], "image_bytes_b": [b""], "alpha": [0.0]}, "image_bytes_[ab]: expected"),
    ],
)
def test_what_is_out_of_range_is_an_invalid_argument_that_names_the_input(ask, signature, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(signature, **inputs)


def test_noise_must_be_finite(ask, model):
    names, shapes = numbered("noise", model.model_config), model.noise_shapes(1)
    noise = {name: np.zeros(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}
    noise[names[1]][0, 0, 0, 0] = np.inf
    with pytest.raises(tf.errors.InvalidArgumentError, match="noise_01: expected finite"):
        ask("decode", temperature=[1.0], **noise)


def test_pixels_may_be_drawn_from_the_mixture(model):
    folded = InferenceModel(fold(model))
    ask = _asker(Signatures(folded, pixels="sample"))
    together = ask("sample", seed=[1, 2, 1], temperature=[1.0, 1.0, 1.0])["image"]
    np.testing.assert_array_equal(together[0], together[2])
    drawn = sample_images(folded, 1, seed=1, pixels="sample")
    # At most, a component may flip where the logits are nearly equal.
    assert np.mean(np.abs(together[0] - 255 * drawn[0]) > 1) < 0.02


def test_other_channels_than_one_or_three_have_no_files():
    signatures = Signatures(InferenceModel(fold(tiny.model(8, **_FIELDS, image_channels=2, likelihood="normal"))))
    assert set(signatures.functions) == {
        "sample", "decode", "encode_pixels", "encode_floats", "interpolate_seeds", "score",
    }  # fmt: skip
    assert set(signatures.specs["sample"]["outputs"]) == {"image"}
