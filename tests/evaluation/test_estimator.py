"""The estimator of log p(x) against a model whose log p(x) is known in closed form."""

import math
import types

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.evaluation.likelihood import Scores, evaluate

_LATENTS, _OUTPUTS, _SCALE = 3, 4, 0.5
_MIXING = np.random.default_rng(0).normal(size=(_OUTPUTS, _LATENTS)).astype(np.float32)
tfd = tfp.distributions


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z, s^2 I), with the true posterior except for a factor on its scales.

    It has the methods of a model that `evaluate` needs; images are [B, 2, 2, 1].
    """

    def __init__(self, factor):
        self.model_config = types.SimpleNamespace(
            image_height=2, image_width=2, image_channels=1, padding=0, latent_channels=_LATENTS
        )
        precision = np.eye(_LATENTS) + _MIXING.T @ _MIXING / _SCALE**2
        self.covariance = np.linalg.inv(precision)
        self.scale = (factor * np.sqrt(np.diag(self.covariance))).astype(np.float32)

    def noise_shapes(self, batch_size):
        return [(batch_size, 1, 1, _LATENTS)]

    def encode(self, images):
        weights = tf.constant(self.covariance @ _MIXING.T / _SCALE**2, tf.float32)
        return [tf.reshape(images, [-1, _OUTPUTS]) @ tf.transpose(weights)]

    def infer_features(self, features, noise):
        (loc,) = features
        z = loc + self.scale * tf.reshape(noise[0], [-1, _LATENTS])
        posterior, prior = tfd.Normal(loc, self.scale), tfd.Normal(tf.zeros([_LATENTS]), tf.ones([_LATENTS]))
        terms = types.SimpleNamespace(
            log_p=tf.reduce_sum(prior.log_prob(z), 1),
            log_q=tf.reduce_sum(posterior.log_prob(z), 1),
            kl_per_channel=tfd.kl_divergence(posterior, prior),
        )
        return z @ tf.constant(_MIXING.T), [terms]

    def likelihood(self, params):
        def log_prob(images):
            return tf.reduce_sum(tfd.Normal(params, _SCALE).log_prob(tf.reshape(images, [-1, _OUTPUTS])), 1)

        return types.SimpleNamespace(log_prob=log_prob)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(40, _LATENTS))
    x = z @ _MIXING.T + _SCALE * rng.normal(size=(40, _OUTPUTS))
    return x.reshape(-1, 2, 2, 1).astype(np.float32)


@pytest.fixture(scope="module")
def log_likelihood(images):
    covariance = _MIXING.astype(np.float64) @ _MIXING.T + _SCALE**2 * np.eye(_OUTPUTS)
    return scipy.stats.multivariate_normal(cov=covariance).logpdf(images.reshape(-1, _OUTPUTS))


@pytest.mark.parametrize("factor", [0.9, 1.3])
def test_bound_converges_to_the_log_likelihood(images, log_likelihood, factor):
    model, errors = LinearGaussian(factor), []
    for num_samples in (1, 20, 2000):
        scores = Scores()
        evaluate(model, [images], num_samples, max_rows=4000, scores=scores)
        gaps = scores.arrays["nll_bound"] + log_likelihood  # nats, of each image
        errors.append((gaps.mean(), gaps.std(ddof=1) / math.sqrt(len(gaps))))
    gaps = [gap for gap, _ in errors]
    # An upper bound on -log p(x) up to its own standard error, tighter with larger K, and reached at K = 2,000.
    assert all(gap > -4 * error for gap, error in errors)
    assert gaps[0] > gaps[1] > gaps[2] - 4 * errors[2][1]
    assert abs(gaps[2]) < 4 * errors[2][1] + 0.005 and errors[2][1] < 0.02


def test_nelbo_exceeds_the_negative_log_likelihood_by_the_divergence(images, log_likelihood):
    model = LinearGaussian(1.3)
    result = evaluate(model, [images], num_samples=2000, max_rows=4000)
    true = tfd.MultivariateNormalTriL(scale_tril=np.linalg.cholesky(model.covariance))
    ours = tfd.MultivariateNormalDiag(scale_diag=model.scale.astype(np.float64))
    divergence = float(ours.kl_divergence(true))  # the means agree
    assert result.nelbo == pytest.approx(divergence - log_likelihood.mean(), abs=0.02)
