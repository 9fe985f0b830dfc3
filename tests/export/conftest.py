"""Tiny models to export."""

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def flow_nvae():
    """Bernoulli `NVAE` of 6 x 6 pixels with padding 1, two groups in two scales and flows. Shared: do not change it."""
    return tiny.model(8, padding=1, groups_per_scale=1, adaptive_groups=False, num_flows=1)


@pytest.fixture(scope="session")
def mixture_nvae():
    """`NVAE` of colour images with two groups in one scale, without flows. Shared: do not change it."""
    fields = {"image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2, "encoder_channels": 8}
    return tiny.model(8, num_scales=1, adaptive_groups=False, decoder_channels=8, **fields)
