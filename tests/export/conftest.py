"""A tiny run and its export, made once."""

import fcntl
import os
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_run_dir(tmp_path_factory):
    """Run folder; see tiny_export.py. Shared: no test may write to it."""
    return _tiny(tmp_path_factory) / "run"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """Folder of the exported model with version 1, checked and published. Shared: no test may write to it."""
    return _tiny(tmp_path_factory) / "nvae"


def _tiny(tmp_path_factory):
    from tiny_export import export_tiny, write_run

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    # The first worker exports for all.
    with open(folder / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "tiny" / "nvae" / "1").exists():
            export_tiny(write_run(folder / "tiny" / "run"), folder / "tiny" / "nvae")
    return folder / "tiny"
