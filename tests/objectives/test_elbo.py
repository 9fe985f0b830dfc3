import types

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.distributions.bernoulli import BernoulliLikelihood
from nvae_tf.objectives.elbo import training_loss
from nvae_tf.objectives.kl import balanced_kl

SCALES = [1.0, 4.0]
MODEL = types.SimpleNamespace(likelihood=BernoulliLikelihood)


@pytest.fixture
def case():
    """Images, the output of a model, and the negative log-likelihood of each image by hand."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (3, 4, 4, 1)).astype(np.float32)
    logits = rng.normal(size=images.shape).astype(np.float32)
    kl = rng.gamma(2.0, size=(3, 2)).astype(np.float32)
    output = types.SimpleNamespace(likelihood_params=tf.constant(logits), kl_per_group=tf.constant(kl))
    signs = 2.0 * images - 1.0
    return images, output, np.log1p(np.exp(-signs * logits)).sum(axis=(1, 2, 3))


def test_terms_of_the_training_loss(case):
    images, output, reconstruction = case
    kl = output.kl_per_group.numpy()
    terms = training_loss(MODEL, images, output, 0.5, SCALES)
    coefficients = balanced_kl(output.kl_per_group, 0.5, SCALES)[1].numpy()
    np.testing.assert_allclose(terms.loss, np.mean(reconstruction + kl @ coefficients), rtol=1e-5)
    np.testing.assert_allclose(terms.reconstruction, reconstruction.mean(), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, kl.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_per_group, kl.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_coefficients, coefficients, rtol=1e-5)
