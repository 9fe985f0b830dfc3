import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from nvae_tf.distributions import NormalLikelihood


def test_log_prob_agrees_with_scipy_and_leaves_padding_out():
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=[2, 6, 8, 6]).astype(np.float32)
    images = rng.uniform(size=[2, 6, 8, 3]).astype(np.float32)
    loc, log_scale = 5 * np.tanh(parameters[..., :3] / 5), 5 * np.tanh(parameters[..., 3:] / 5)
    densities = stats.norm.logpdf(2 * images - 1, loc, np.exp(log_scale) + 0.01)
    np.testing.assert_allclose(NormalLikelihood(parameters).log_prob(images), densities.sum((1, 2, 3)), rtol=1e-5)
    cropped = NormalLikelihood(parameters, padding=2).log_prob(images)
    np.testing.assert_allclose(cropped, densities[:, 2:4, 2:6].sum((1, 2, 3)), rtol=1e-5)


def test_mean_is_mapped_and_clipped():
    loc = tf.constant([[[[-0.5], [0.0], [0.5], [3.0], [-3.0]]]])
    mean = NormalLikelihood(tf.concat([loc, tf.zeros_like(loc)], axis=-1)).mean()
    inner = (5 * np.tanh(0.5 / 5) + 1) / 2
    np.testing.assert_allclose(mean[0, 0, :, 0], [1 - inner, 0.5, inner, 1.0, 0.0], rtol=1e-6)


def test_samples_have_the_moments_of_the_density():
    num_samples, scale = 20000, np.exp(5 * np.tanh(-2.0 / 5)) + 0.01
    likelihood = NormalLikelihood(tf.constant([[[[0.2, -2.0]]]]))
    samples = likelihood.sample(num_samples, seed=tf.constant([1, 2], tf.int64)).numpy().ravel()
    assert samples.dtype == np.float32 and samples.min() >= 0.0 and samples.max() <= 1.0
    std = scale / 2  # the image's range is half that of the density's
    expected = (5 * np.tanh(0.2 / 5) + 1) / 2
    assert abs(samples.mean() - expected) < 5 * std / np.sqrt(num_samples)
    assert abs(samples.std() - std) < 5 * std / np.sqrt(2 * num_samples)


def test_odd_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match=r"even last axis.*Received: shape \(1, 2, 2, 3\)"):
        NormalLikelihood(tf.zeros([1, 2, 2, 3]))
