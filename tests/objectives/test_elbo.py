import types

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.distributions.bernoulli import BernoulliLikelihood
from nvae_tf.objectives.elbo import training_loss
from nvae_tf.objectives.kl import balanced_kl
from tests import tiny

CONFIG = tiny.model_config(groups_per_scale=1)
SCALES = hierarchy.kl_balance_scales(CONFIG)
MODEL = types.SimpleNamespace(likelihood=BernoulliLikelihood, model_config=CONFIG)


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
    terms = training_loss(MODEL, images, output, 0.5)
    coefficients = balanced_kl(output.kl_per_group, 0.5, SCALES)[1].numpy()
    np.testing.assert_allclose(terms.loss, np.mean(reconstruction + kl @ coefficients), rtol=1e-5)
    np.testing.assert_allclose(terms.reconstruction, reconstruction.mean(), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, kl.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_per_group, kl.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(terms.kl_coefficients, coefficients, rtol=1e-5)


def test_a_model_may_weigh_its_kl_itself(case):
    images, output, reconstruction = case
    kl = output.kl_per_group.numpy()

    def weighted_kl(output, kl_weight):
        return kl_weight * tf.reduce_max(output.kl_per_group, axis=1), tf.constant([0.0, 3.0])

    model = types.SimpleNamespace(likelihood=BernoulliLikelihood, weighted_kl=weighted_kl)
    terms = training_loss(model, images, output, 0.5)
    np.testing.assert_allclose(terms.loss, np.mean(reconstruction + 0.5 * kl.max(axis=1)), rtol=1e-5)
    np.testing.assert_allclose(terms.kl, kl.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_array_equal(terms.kl_coefficients, [0.0, 3.0])
