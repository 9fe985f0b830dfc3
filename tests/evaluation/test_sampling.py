import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.evaluation import sampling
from nvae_tf.evaluation.sampling import reconstruct, sample_images
from nvae_tf.models.noise import keyed_noise, row_keys
from nvae_tf.models.pixels import crop_padding


def test_samples_follow_seed_and_temperature_and_have_no_padding(evaluated_model):
    def draw(**arguments):
        return sample_images(evaluated_model, 3, batch_size=2, **arguments)

    reference = draw(seed=1)
    assert reference.shape == (3, 6, 6, 1) and reference.dtype == np.float32
    assert 0.0 <= reference.min() and reference.max() <= 1.0
    assert not np.array_equal(reference[0], reference[2])  # no two batches share their noise
    np.testing.assert_array_equal(draw(seed=1), reference)
    assert not np.array_equal(draw(seed=2), reference)
    before = sampling._generate.experimental_get_tracing_count()
    assert not np.array_equal(draw(seed=1, temperature=0.5), reference)
    assert sampling._generate.experimental_get_tracing_count() == before  # one trace serves all temperatures


def test_pixels_are_drawn_around_the_mean(evaluated_model):
    mean = sample_images(evaluated_model, 2, seed=1)
    sample = sample_images(evaluated_model, 2, seed=1, pixels="sample")
    assert set(np.unique(sample)) == {0.0, 1.0}
    # 72 independent Bernoulli draws: the mean deviates by less than 0.5 / sqrt(72) in standard deviation.
    assert abs(sample.mean() - mean.mean()) < 5 * 0.5 / np.sqrt(72)


@pytest.mark.parametrize("pixels", ["mean", "sample"])
def test_an_image_is_the_same_in_any_batch(evaluated_model, pixels):
    reference = sample_images(evaluated_model, 9, seed=1, batch_size=9, pixels=pixels)
    for batch_size in (1, 4, 64):
        images = sample_images(evaluated_model, 9, seed=1, batch_size=batch_size, pixels=pixels)
        np.testing.assert_allclose(images, reference, atol=2e-6)
    np.testing.assert_allclose(
        sample_images(evaluated_model, 2, seed=1, first=5, pixels=pixels), reference[5:7], atol=2e-6
    )


@pytest.mark.parametrize("pixels", ["mean", "sample"])
def test_replicas_share_a_batch(evaluated_model, mirrored, pixels):
    strategy, model = mirrored
    reference = sample_images(evaluated_model, 5, seed=1, pixels=pixels)
    images = sample_images(model, 5, seed=1, batch_size=3, pixels=pixels, strategy=strategy)
    np.testing.assert_allclose(images, reference, atol=2e-6)


def test_a_temperature_for_each_group(evaluated_nvae, evaluated_model):
    noise = keyed_noise(evaluated_model.noise_shapes(2), row_keys(1, tf.range(2)))
    params = evaluated_nvae.generate([noise[0] * 0.25, noise[1] * 2.0])
    expected = crop_padding(evaluated_model.likelihood(params).mean(), 1)
    np.testing.assert_allclose(sample_images(evaluated_model, 2, [0.25, 2.0], seed=1), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"temperature: expected one, 2 \(one for each scale\) or 2 .* Received: 3"):
        sample_images(evaluated_model, 2, [0.5] * 3)


def test_reconstruction_is_the_mean_of_a_posterior_sample(evaluated_nvae, evaluated_model, binary_images):
    images = binary_images[:2]
    result = reconstruct(evaluated_model, images, seed=3)
    noise = keyed_noise(evaluated_model.noise_shapes(2), row_keys(3, tf.range(2)))
    params = evaluated_nvae(images, noise=noise).likelihood_params
    expected = evaluated_model.likelihood(params).mean().numpy()[:, 1:7, 1:7]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, value", [("temperature", 0.0), ("temperature", np.nan), ("pixels", "mode")])
def test_refuses_arguments_out_of_range(evaluated_model, name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* Received: "):
        sample_images(evaluated_model, **{"num": 1, name: value})
