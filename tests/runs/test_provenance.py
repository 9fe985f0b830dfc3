import hashlib
import json
import shutil
import subprocess

import pytest

import nvae_tf
from nvae_tf.files import file_sum
from nvae_tf.runs import provenance as module
from nvae_tf.runs.load import load_run
from nvae_tf.runs.provenance import provenance


@pytest.fixture(scope="module")
def nvae(digits_run):
    return load_run(digits_run)


@pytest.fixture
def run_dir(digits_run, tmp_path):
    """A copy of the run that a test may write to."""
    return shutil.copytree(digits_run, tmp_path / "run")


def test_names_the_weights_and_their_checksum(nvae, run_dir):
    origin = provenance(run_dir, nvae, 0.7)
    files = sorted((run_dir / "checkpoints" / "step_00000003").glob("state.*"))
    assert len(files) == 2
    sums = "".join(f"{file_sum(file)}  {file.name}\n" for file in files)
    expected = {"step": 3, "averaged": False, "batch_norm_temperature": 0.7}
    assert origin["run"] == {**expected, "checkpoint_sha256": hashlib.sha256(sums.encode()).hexdigest()}
    assert origin["dataset"] == "digits" and origin["versions"]["nvae_tf"] == nvae_tf.__version__


@pytest.mark.parametrize(
    "evaluated, batch_norm_temperature, counts",
    [
        ({"step": 3, "ema": False}, None, True),
        ({"step": 2, "ema": False}, None, False),
        ({"step": 3, "ema": True}, None, False),
        ({"step": 3, "ema": False}, 0.7, False),
    ],
    ids=["the weights", "another step", "the average", "other statistics"],
)
def test_only_the_likelihood_of_these_weights_counts(nvae, run_dir, evaluated, batch_norm_temperature, counts):
    assert provenance(run_dir, nvae)["evaluation"] is None
    (run_dir / "evaluation.json").write_text(json.dumps({**evaluated, "nelbo": 90.5}))
    evaluation = provenance(run_dir, nvae, batch_norm_temperature)["evaluation"]
    assert evaluation == ({**evaluated, "nelbo": 90.5} if counts else None)


def test_damaged_evaluation_is_named(nvae, run_dir):
    (run_dir / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json: expected what tools/evaluate\.py writes\. Received"):
        provenance(run_dir, nvae)


def test_only_the_commit_of_the_project_counts(nvae, run_dir, monkeypatch, tmp_path):
    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(module, "_PACKAGE", tmp_path)
    assert provenance(run_dir, nvae)["git_commit"] is None
    git("init")
    git("commit", "--allow-empty", "--message=another project, into whose folder the package was installed")
    (tmp_path / "__init__.py").touch()
    assert provenance(run_dir, nvae)["git_commit"] is None
    git("add", "__init__.py")
    git("commit", "--message=the package")
    git("tag", "v1")
    assert provenance(run_dir, nvae)["git_commit"] == git("rev-parse", "HEAD")
    (tmp_path / "__init__.py").write_text("changed")
    assert provenance(run_dir, nvae)["git_commit"] == git("rev-parse", "HEAD") + "-dirty"
