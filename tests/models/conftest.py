"""Tiny models shared by the tests in this folder."""

import numpy as np
import pytest

from tests import tiny


def _draw(model, batch_size, seed=0):
    rng = np.random.default_rng(seed)
    config = model.model_config
    shape = (batch_size, config.image_height, config.image_width, config.image_channels)
    noise = [rng.normal(size=shape).astype(np.float32) for shape in model.noise_shapes(batch_size)]
    return rng.random(shape).astype(np.float32), noise


@pytest.fixture(scope="session")
def draw():
    """Function that returns images and noise for a model: draw(model, batch_size, seed=0)."""
    return _draw


@pytest.fixture(scope="session")
def model():
    """Model without flows for 8 x 8 images. Shared: tests must not change its variables."""
    return tiny.model(8)


@pytest.fixture(scope="session")
def flow_model():
    """Model with one flow step per group. Shared: tests must not change its variables."""
    return tiny.model(8, num_flows=1)
