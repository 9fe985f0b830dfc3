"""A tiny model for the evaluation tests."""

import numpy as np
import pytest

from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from tests import tiny


@pytest.fixture(scope="session")
def evaluated_nvae():
    """Bernoulli model of 8 x 8 images with one pixel of padding and two groups, each with a flow."""
    return tiny.model(8, padding=1, groups_per_scale=1, adaptive_groups=False, num_flows=1)


@pytest.fixture(scope="session")
def evaluated_model(evaluated_nvae):
    """Its `InferenceModel`."""
    return InferenceModel(fold(evaluated_nvae))


@pytest.fixture(scope="session")
def mirrored(evaluated_nvae, two_replicas):
    """(strategy with two replicas, the same model in its scope)."""
    with two_replicas.scope():
        return two_replicas, InferenceModel(fold(evaluated_nvae))


@pytest.fixture(scope="session")
def binary_images():
    """Seven images [7, 8, 8, 1] of zeros and ones."""
    return np.random.default_rng(1).integers(0, 2, (7, 8, 8, 1)).astype(np.float32)
