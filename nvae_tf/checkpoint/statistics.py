"""Batch-norm statistics readjusted for sampling at a temperature, beside the checkpoint they were made from.

RUN_DIR/checkpoints/step_00002811/batch_norm_t0.7.npz       of the weights as trained
                                  batch_norm_t0.7_ema.npz   of their moving average

They go with the checkpoint when it is removed, and never replace its own statistics.
"""

import io
import os
import re

import numpy as np

from nvae_tf import files
from nvae_tf.checkpoint.errors import CheckpointError, DamagedCheckpointError

_NAME = re.compile(r"batch_norm_t(?P<temperature>[0-9.e+-]+?)(?P<average>_ema)?\.npz")


def _path(folder, temperature, average):
    return folder / f"batch_norm_t{float(temperature):g}{'_ema' * bool(average)}.npz"


def list_temperatures(folder, average):
    """Temperatures for which there are statistics, sorted.

    Args:
        folder: `pathlib.Path` of a checkpoint.
        average: those of the moving average of the weights, or of the weights as trained.
    """
    matches = filter(None, (_NAME.fullmatch(path.name) for path in folder.glob("batch_norm_t*.npz")))
    return sorted(float(match["temperature"]) for match in matches if bool(match["average"]) == bool(average))


def save_statistics(folder, temperature, average, arrays):
    """Writes statistics, or replaces those of the same temperature; to a temporary name first.

    Args:
        folder: `pathlib.Path` of a checkpoint.
        temperature: of the samples.
        average: whether they are of the moving average of the weights.
        arrays: `{name: array}`.

    Returns:
        Path of the file.
    """
    path, content = _path(folder, temperature, average), io.BytesIO()
    np.savez(content, **arrays)
    temporary = files.temporary_name(path)
    temporary.write_bytes(content.getvalue())
    files.sync(temporary)
    os.replace(temporary, path)
    return path


def load_statistics(folder, temperature, average):
    """`{name: array}` of the statistics of a temperature.

    Args:
        folder, temperature, average: as of `save_statistics`.

    Raises:
        CheckpointError: there are none of that temperature; the message says which there are.
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
