"""Tiny models to export; a small SavedModel that keeps every rule, built once, and copies of it to break."""

import shutil

import pytest

from nvae_tf.models.nvae import NVAE
from tests import tiny
from tests.export.saved_model.check.good_saved_model import build
from tests.export.tiny_export import MIXTURE


@pytest.fixture(scope="session")
def flow_nvae():
    """Bernoulli `NVAE` of 6 x 6 pixels with padding 1, two groups in two scales and flows. Shared: do not change it."""
    return tiny.model(8, padding=1, groups_per_scale=1, adaptive_groups=False, num_flows=1)


@pytest.fixture(scope="session")
def mixture_nvae():
    """`NVAE` of colour images with two groups in one scale, without flows. Shared: do not change it."""
    return tiny.perturb(NVAE(MIXTURE))


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """Version folder of a SavedModel that keeps every rule. Shared: no test may write to it."""
    version = tmp_path_factory.mktemp("base") / "nvae" / "1"
    build(version)
    return version


@pytest.fixture
def version(good, tmp_path):
    """A copy of it that a test may break."""
    shutil.copytree(good.parent, tmp_path / "nvae")
    return tmp_path / "nvae" / "1"
