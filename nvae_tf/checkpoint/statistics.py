"""Batch-norm statistics readjusted for sampling at a temperature, stored with the checkpoint they were made from.

RUN_DIR/checkpoints/step_00002811/batch_norm_t0.7.npz       for the weights as trained
                                  batch_norm_t0.7_ema.npz   for their moving average

They are removed with the checkpoint, and never replace its own statistics.
"""

import re

import numpy as np

from nvae_tf.checkpoint.steps import CheckpointError, DamagedCheckpointError
from nvae_tf.files import new_file

_NAME = re.compile(r"batch_norm_t(?P<temperature>[0-9.e+-]+?)(?P<average>_ema)?\.npz")


def _path(folder, temperature, average):
    return folder / f"batch_norm_t{float(temperature):g}{'_ema' * bool(average)}.npz"


def list_temperatures(folder, average):
    """Temperatures for which a checkpoint's folder has statistics, sorted; arguments as in `save_statistics`."""
    matches = filter(None, (_NAME.fullmatch(path.name) for path in folder.glob("batch_norm_t*.npz")))
    return sorted(float(match["temperature"]) for match in matches if bool(match["average"]) == bool(average))


def save_statistics(folder, temperature, average, arrays):
    """Writes statistics, or replaces those of the same temperature; returns the path of the file.

    Args:
        folder: `pathlib.Path` of a checkpoint.
        temperature: temperature of the samples.
        average: whether they belong to the moving average of the weights rather than to the weights as trained.
        arrays: `{name: array}`.
    """
    path = _path(folder, temperature, average)
    with new_file(path) as temporary:
        np.savez(temporary, **arrays)
    return path


def load_statistics(folder, temperature, average):
    """The arrays that `save_statistics` wrote, by name.

    Raises:
        CheckpointError: there are none for that temperature; the message lists the existing temperatures.
        DamagedCheckpointError: the file cannot be read.
    """
    path = _path(folder, temperature, average)
    if not path.exists():
        raise CheckpointError(
            f"{folder}: expected batch-norm statistics of temperature {temperature:g} (made by tools/readjust_bn.py). "
            f"Received: those of {list_temperatures(folder, average) or 'none'}"
        )
    try:
        with np.load(path) as file:
            return dict(file)
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DamagedCheckpointError(f"{path}: expected statistics. Received: a damaged file ({error})") from error
