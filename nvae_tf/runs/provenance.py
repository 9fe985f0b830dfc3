"""Where an exported model comes from."""

import hashlib
import json
import pathlib
import subprocess

import keras
import tensorflow as tf

import nvae_tf
from nvae_tf.checkpoint import RunFolder
from nvae_tf.files import file_sum

_PACKAGE = pathlib.Path(nvae_tf.__file__).parent


def provenance(run_dir, nvae, batch_norm_temperature=None):
    """What is known of a model that `nvae_tf.load_run` gave, for the cards of its exports.

    Args:
        run_dir: folder of the run.
        nvae: `NVAE` as `load_run` gave it.
        batch_norm_temperature: that `load_run` was given. Default None.

    Returns:
        {"run": {"step", "averaged", "batch_norm_temperature", "checkpoint_sha256"}, "dataset": name,
        "versions": {package: version}, "git_commit": the project's, with "-dirty" where files were changed, or None,
        "evaluation": content of the run's evaluation.json, or None where it is not of these weights and statistics}.

    Raises:
        CheckpointError: the checkpoint is not there any more.
        ValueError: evaluation.json is damaged.
    """
    return {
        "run": weights(run_dir, nvae, batch_norm_temperature),
        "dataset": nvae.config.data.dataset,
        "versions": {"nvae_tf": nvae_tf.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        "git_commit": _git_commit(),
        "evaluation": _evaluation(RunFolder(run_dir).path, nvae) if batch_norm_temperature is None else None,
    }


def weights(run_dir, nvae, batch_norm_temperature=None):
    """Which weights and statistics a model has: the part "run" of `provenance`, with its arguments.

    Raises:
        CheckpointError: the checkpoint is not there any more.
    """
    folder = RunFolder(run_dir)
    step = folder.resolve_step(nvae.restored_step)
    return {
        "step": step,
        "averaged": nvae.averaged,
        "batch_norm_temperature": batch_norm_temperature,
        "checkpoint_sha256": _checkpoint_sum(folder.step_folder(step)),
    }


def _checkpoint_sum(folder):
    """SHA-256 of what `sha256sum state.*` prints in the folder."""
    lines = [f"{file_sum(path)}  {path.name}\n" for path in sorted(folder.glob("state.*"))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _evaluation(run_dir, nvae):
    path = run_dir / "evaluation.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        same_weights = (values["step"], values["ema"]) == (nvae.restored_step, nvae.averaged)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected what tools/evaluate.py writes. Received: {error!r}") from error
    return values if same_weights else None


def _git_commit():
    def git(*arguments):
        result = subprocess.run(["git", "-C", _PACKAGE, *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed package may lie in another project's folder
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
