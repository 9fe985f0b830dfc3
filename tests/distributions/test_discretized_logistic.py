import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from nvae_tf.distributions import DiscretizedLogisticLikelihood


def _params(means, log_scale):
    return tf.concat([means, tf.fill([*means.shape[:-1], 1], log_scale)], axis=-1)


def _levels(bit_depth):
    """One image for each level [L, 1, 1, 1], and the levels."""
    numbers = np.arange(2**bit_depth)
    return (numbers / (2**bit_depth - 1)).astype(np.float32).reshape(-1, 1, 1, 1), numbers


@pytest.mark.parametrize("bit_depth", [1, 5, 8])
@pytest.mark.parametrize("log_scale", [-5.0, -3.0, 1.0])
def test_the_mass_of_a_level_is_that_of_its_bin(bit_depth, log_scale):
    images, numbers = _levels(bit_depth)
    mean, num_levels = np.float32(0.13), 2**bit_depth
    params = _params(np.full(images.shape, mean, np.float32), log_scale)
    logistic = stats.logistic(np.float64(mean), np.exp(log_scale))
    lower = numbers / num_levels - 0.5
    # By the tail that is smaller, since the reference, too, is a difference.
    upper_tail = logistic.sf(lower) - logistic.sf(lower + 1 / num_levels)
    mass = np.where(lower < mean, logistic.cdf(lower + 1 / num_levels) - logistic.cdf(lower), upper_tail)
    log_prob = DiscretizedLogisticLikelihood(params, bit_depth).log_prob(images)
    np.testing.assert_allclose(log_prob, np.log(mass + 1e-7), rtol=2e-5, atol=1e-6)


def test_a_broad_logistic_loses_the_mass_outside_and_a_far_level_keeps_16_nats():
    images, _ = _levels(8)
    broad = DiscretizedLogisticLikelihood(_params(tf.zeros(images.shape), 0.0))
    inside = stats.logistic.cdf(0.5) - stats.logistic.cdf(-0.5) + 256 * 1e-7
    assert float(tf.reduce_sum(tf.exp(broad.log_prob(images)))) == pytest.approx(inside, rel=1e-5)
    narrow = DiscretizedLogisticLikelihood(_params(tf.zeros([1, 1, 1, 1]), -9.0))
    assert float(narrow.log_prob(tf.ones([1, 1, 1, 1]))[0]) == pytest.approx(np.log(1e-7), rel=1e-5)


def test_the_clip_of_the_mean_stops_its_gradient_and_the_padding_does_not_count():
    params = tf.Variable(np.random.default_rng(0).normal(scale=0.3, size=[2, 6, 6, 4]).astype(np.float32))
    images = tf.round(tf.random.stateless_uniform([2, 6, 6, 3], [0, 0]) * 255.0) / 255.0
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(DiscretizedLogisticLikelihood(params, padding=2).log_prob(images))
    gradient = tape.gradient(total, params).numpy()
    inside = np.abs(params.numpy()) <= 0.5 - 1 / 512
    inside[..., -1] = True
    inside[:, [0, 1, 4, 5]] = inside[:, :, [0, 1, 4, 5]] = False
    np.testing.assert_array_equal(gradient != 0.0, inside)
    window = params[:, 2:4, 2:4]
    expected = tf.reduce_sum(DiscretizedLogisticLikelihood(window).log_prob(images[:, 2:4, 2:4]))
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_mean_and_samples_are_images():
    means = np.array([-0.9, -0.25, 0.0, 0.9], np.float32).reshape(1, 1, 4, 1)
    likelihood = DiscretizedLogisticLikelihood(_params(means, -2.0), bit_depth=5)
    np.testing.assert_allclose(likelihood.mean()[0, 0, :, 0], [1 / 64, 0.25, 0.5, 63 / 64])
    samples = likelihood.sample(20_000, seed=tf.constant([3, 0]))
    assert samples.shape == (20_000, 1, 1, 4, 1)
    numbers = samples.numpy()[:, 0, 0, :, 0] * 31
    np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-4)
    shares = np.bincount(np.round(numbers[:, 1]).astype(int), minlength=32) / len(numbers)
    images, _ = _levels(5)
    masses = np.exp(
        DiscretizedLogisticLikelihood(_params(np.full(images.shape, -0.25, np.float32), -2.0), 5).log_prob(images)
    )
    masses[0], masses[-1] = stats.logistic(-0.25, np.exp(-2)).cdf(1 / 32 - 0.5), 1 - masses[:-1].sum()
    np.testing.assert_allclose(shares[:-1], masses[:-1], atol=0.01)
    np.testing.assert_array_equal(samples, likelihood.sample(20_000, seed=tf.constant([3, 0])))
