"""The wheel, built and installed outside of the repository without a network."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import nvae_tf

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
_USE = """
import sys, nvae_tf, nvae_tf.serving.client
print(nvae_tf.__file__, nvae_tf.__version__, nvae_tf.load_run(sys.argv[1]).restored_step)
"""


@pytest.mark.slow
def test_the_wheel_works_elsewhere(digits_run, tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(REPOSITORY / "nvae_tf", source / "nvae_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, f"--target={site}", source], check=True)
    for path in (source / "nvae_tf").rglob("*.*"):
        assert path.suffix == ".md" or (site / path.relative_to(source)).exists(), path
    command, environment = [sys.executable, "-c", _USE, digits_run], {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(site / "nvae_tf" / "__init__.py"), nvae_tf.__version__, "3"]
