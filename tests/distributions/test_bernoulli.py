import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import expit

from nvae_tf.distributions import BernoulliLikelihood


def test_log_prob_agrees_with_scipy_and_leaves_padding_out():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3.0, size=[2, 6, 8, 1]).astype(np.float32)
    images = rng.integers(2, size=[2, 6, 8, 1])
    log_probs = stats.bernoulli.logpmf(images, expit(logits.astype(np.float64)))
    whole = BernoulliLikelihood(logits).log_prob(images.astype(np.float32))
    np.testing.assert_allclose(whole, log_probs.sum((1, 2, 3)), rtol=1e-5)
    cropped = BernoulliLikelihood(logits, padding=2).log_prob(images.astype(np.float32))
    np.testing.assert_allclose(cropped, log_probs[:, 2:4, 2:6].sum((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("name", ["mnist_tiny", "mnist_small_trained"])
def test_agrees_with_golden_numbers(golden, name):
    arrays = np.load(golden / f"{name}.expected.npz")
    images, logits, sample_logits, mean = (
        np.transpose(arrays[key], [0, 2, 3, 1])
        for key in ("x", "eval_logits", "sample_logits_t0.6", "sample_mean_t0.6")
    )
    log_prob = BernoulliLikelihood(logits, padding=2).log_prob(images)
    np.testing.assert_allclose(-log_prob, arrays["eval_recon_loss"], rtol=1e-5)
    np.testing.assert_allclose(BernoulliLikelihood(sample_logits, padding=2).mean(), mean, atol=1e-6)


def test_gradients_are_finite_at_extremes():
    logits = tf.constant([-1e6, -100.0, 0.0, 100.0, 1e6], shape=[1, 1, 5, 1])
    for value in (0.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_prob = BernoulliLikelihood(logits).log_prob(tf.fill([1, 1, 5, 1], value))
        expected = value - expit(logits.numpy().astype(np.float64))
        np.testing.assert_allclose(tape.gradient(log_prob, logits), expected, atol=1e-6)


def test_samples_follow_the_probabilities():
    num_samples = 4000
    probs = np.array([0.05, 0.5, 0.9])
    logits = tf.constant(np.log(probs / (1 - probs)), tf.float32, shape=[1, 1, 3, 1])
    samples = BernoulliLikelihood(logits).sample(num_samples, seed=3).numpy()
    assert samples.shape == (num_samples, 1, 1, 3, 1) and set(np.unique(samples)) == {0.0, 1.0}
    tolerance = 5 * np.sqrt(probs * (1 - probs) / num_samples)
    assert np.all(np.abs(samples.mean(0).ravel() - probs) < tolerance)


def test_level_probabilities_are_those_of_the_log_prob():
    logits = tf.constant(np.random.default_rng(0).normal(scale=5.0, size=(2, 4, 4, 2)), tf.float32)
    images = np.random.default_rng(1).integers(2, size=(2, 4, 4, 2))
    likelihood = BernoulliLikelihood(logits, padding=1)
    found = np.stack([likelihood.level_probabilities(channel, None) for channel in range(2)], axis=3)
    chosen = np.take_along_axis(found, images[:, 1:-1, 1:-1, :, np.newaxis], axis=-1)
    np.testing.assert_allclose(np.log(chosen).sum(axis=(1, 2, 3, 4)), likelihood.log_prob(images), rtol=1e-5)
