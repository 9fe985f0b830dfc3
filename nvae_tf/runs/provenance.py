"""Where an exported model comes from."""

import hashlib
import pathlib
import subprocess

import keras
import tensorflow as tf

import nvae_tf
from nvae_tf.checkpoint import RunFolder
from nvae_tf.checkpoint.figures import read_evaluation
from nvae_tf.files import file_sum

_PACKAGE = pathlib.Path(nvae_tf.__file__).parent


def provenance(run_dir, nvae, batch_norm_temperature=None):
    """Origin of a model, for the cards of its exports.

    Args:
        run_dir: folder of the run; None for a model that does not come from one, whose "run", "dataset" and
            "evaluation" are None.
        nvae: `NVAE` that `nvae_tf.load_run` returned for the run.
        batch_norm_temperature: the argument given to `load_run`. Default None.

    Returns:
        {"run": {"step", "averaged", "batch_norm_temperature", "checkpoint_sha256"}, "dataset": name,
        "versions": {package: version}, "git_commit": the project's, with "-dirty" if files were changed, or None,
        "evaluation": contents of the run's evaluation.json, or None if it is for other weights or statistics}.

    Raises:
        CheckpointError: the checkpoint no longer exists.
        ValueError: evaluation.json is damaged.
    """
    evaluation = None
    if run_dir is not None and batch_norm_temperature is None:
        evaluation = read_evaluation(RunFolder(run_dir).path, nvae)
    return {
        "run": None if run_dir is None else weights(run_dir, nvae, batch_norm_temperature),
        "dataset": None if run_dir is None else nvae.config.data.dataset,
        "versions": {"nvae_tf": nvae_tf.__version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        "git_commit": _git_commit(),
        "evaluation": evaluation,
    }


def weights(run_dir, nvae, batch_norm_temperature=None):
    """Weights and statistics of a model: the part "run" of `provenance`, which takes the same arguments.

    Of `nvae` the attributes `restored_step` and `averaged` are used, which a `ChosenWeights` has too.
    """
    folder = RunFolder(run_dir)
    step = folder.resolve_step(nvae.restored_step)
    # What `sha256sum state.*` prints in the checkpoint's folder.
    files = sorted(folder.step_folder(step).glob("state.*"))
    sums = "".join(f"{file_sum(path)}  {path.name}\n" for path in files)
    return {
        "step": step,
        "averaged": nvae.averaged,
        "batch_norm_temperature": batch_norm_temperature,
        "checkpoint_sha256": hashlib.sha256(sums.encode()).hexdigest(),
    }


def _git_commit():
    def git(*arguments):
        result = subprocess.run(["git", "-C", _PACKAGE, *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a package may be installed in another project's folder
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
