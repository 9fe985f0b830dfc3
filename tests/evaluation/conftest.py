"""A tiny model for the tests of evaluation."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def evaluated_model():
    """Bernoulli model of 8 x 8 images with one pixel of padding, one flow a group, and batch-norm statistics set."""
    from nvae_tf.config import ModelConfig
    from nvae_tf.models.nvae import NVAE

    model = NVAE(
        ModelConfig(
            image_height=8,
            image_width=8,
            padding=1,
            num_scales=2,
            groups_per_scale=1,
            latent_channels=2,
            encoder_channels=4,
            decoder_channels=4,
            preprocess_blocks=1,
            preprocess_cells=1,
            postprocess_blocks=1,
            postprocess_cells=1,
            encoder_cells_per_group=1,
            decoder_cells_per_group=1,
            num_flows=1,
        )
    )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "kernel" not in variable.name:
            variable.assign(variable + 0.3 * rng.random(variable.shape, np.float32))
    return model


@pytest.fixture(scope="session")
def binary_images():
    """Seven images [7, 8, 8, 1] of zeros and ones."""
    return np.random.default_rng(1).integers(0, 2, (7, 8, 8, 1)).astype(np.float32)
