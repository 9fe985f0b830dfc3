"""Tiny models that the tests of this folder share."""

import numpy as np
import pytest

from nvae_tf.config import ModelConfig
from nvae_tf.models.nvae import NVAE


def _config(**overrides):
    fields = {
        "image_height": 8,
        "image_width": 8,
        "num_scales": 2,
        "groups_per_scale": 2,
        "adaptive_groups": True,
        "latent_channels": 2,
        "encoder_channels": 4,
        "decoder_channels": 4,
        "preprocess_blocks": 1,
        "preprocess_cells": 1,
        "postprocess_blocks": 1,
        "postprocess_cells": 1,
        "encoder_cells_per_group": 1,
        "decoder_cells_per_group": 1,
    }
    return ModelConfig(**(fields | overrides))


def _perturb(layer, seed=0):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        value = variable.numpy()
        # Multiplied first, so that running variances stay positive.
        value = value * rng.uniform(0.7, 1.4, value.shape)
        if variable.name != "moving_variance":
            value = value + 0.1 * rng.normal(size=value.shape)
        variable.assign(value.astype(np.float32))
    return layer


def _draw(model, batch_size, seed=0):
    rng = np.random.default_rng(seed)
    config = model.model_config
    shape = (batch_size, config.image_height, config.image_width, config.image_channels)
    noise = [rng.normal(size=shape).astype(np.float32) for shape in model.noise_shapes(batch_size)]
    return rng.random(shape).astype(np.float32), noise


@pytest.fixture(scope="session")
def tiny_config():
    """Function that makes a `ModelConfig` of three groups on 8 x 8 images; keywords override fields."""
    return _config


@pytest.fixture(scope="session")
def perturb():
    """Function that moves every variable of a layer away from its initial value, and returns the layer."""
    return _perturb


@pytest.fixture(scope="session")
def draw():
    """Function that gives images and noise for a model: draw(model, batch_size, seed=0)."""
    return _draw


@pytest.fixture(scope="session")
def model():
    """Model without flows. Shared: no test may change its variables."""
    return _perturb(NVAE(_config()))


@pytest.fixture(scope="session")
def flow_model():
    """Model with one flow step a group. Shared: no test may change its variables."""
    return _perturb(NVAE(_config(num_flows=1)))
