"""A small SavedModel that keeps every rule, built once, and copies of it to break."""

import shutil

import pytest

from tests.export.saved_model.check.good_saved_model import build


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """Version folder of a SavedModel that keeps every rule. Shared: no test may write to it."""
    version = tmp_path_factory.mktemp("base[1]\\") / "nvae" / "1"
    build(version)
    return version


@pytest.fixture
def version(good, tmp_path):
    """A copy of it that a test may break."""
    shutil.copytree(good.parent, tmp_path / "nvae")
    return tmp_path / "nvae" / "1"
