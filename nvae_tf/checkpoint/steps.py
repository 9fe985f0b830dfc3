"""Which folder holds the checkpoint of which step."""

import os
import re

from nvae_tf.files import REPLACED

# A checkpoint that is being replaced counts until the new one has its name.
_STEP_NAME = re.compile(rf"(?:{REPLACED})?step_(\d{{8,}})")


def step_of(name):
    """Step of the checkpoint whose folder has this name, or None where it is no checkpoint's."""
    match = _STEP_NAME.fullmatch(name)
    return match and int(match[1])


def list_steps(checkpoints):
    """Steps of the checkpoints in a folder, which need not exist, in increasing order."""
    try:
        names = os.listdir(checkpoints)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({step_of(name) for name in names} - {None})


def final_folder(checkpoints, step):
    """Where to put the checkpoint of a step."""
    return checkpoints / f"step_{step:08d}"


def current_folder(checkpoints, step):
    """Where the checkpoint of a step is."""
    final = final_folder(checkpoints, step)
    replaced = final.with_name(REPLACED + final.name)
    return replaced if replaced.exists() and not final.exists() else final
