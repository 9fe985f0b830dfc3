"""Errors of checkpoints, the steps of their folders, and which one is the best."""

import json
import re

from absl import logging

from nvae_tf.files import REPLACED

# A checkpoint that is being replaced counts until the new one has taken its name.
_STEP_NAME = re.compile(rf"(?:{REPLACED})?step_(\d{{8,}})")


class CheckpointError(ValueError):
    """A run folder or checkpoint that cannot be used; the message names the folder and what is wrong."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are missing or differ from what was written; other checkpoints may still be good."""


def step_of(name):
    """Step of the checkpoint whose folder has this name; None for other names."""
    match = _STEP_NAME.fullmatch(name)
    return match and int(match[1])


def read_best(path, steps):
    """The result of `RunFolder.best`, from the file of the mark and the steps that have a checkpoint."""
    try:
        values = json.loads(path.read_text())
        best = {"step": int(values["step"]), "nelbo": float(values["nelbo"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logging.warning("%s: expected a step and a nelbo. Received: %r", path, error)
        return None
    if best["step"] not in steps:
        logging.warning("%s: expected a step with a checkpoint, one of %s. Received: %s", path, steps, best["step"])
        return None
    return best
