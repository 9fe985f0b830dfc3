"""A run folder with the weights of a model and nothing else of its checkpoint, to be published or archived.

OUT/
  config.json, data.json, metrics.jsonl    those of the run
  evaluation.json                          that of the run, if it is for these weights
  checkpoints/step_00002811/               the weights, and the batch-norm statistics readjusted for them

Every program that takes a run takes it, except that train.py cannot resume it.
"""

import pathlib
import shutil

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.checkpoint.figures import read_evaluation
from nvae_tf.checkpoint.statistics import list_temperatures, load_statistics, save_statistics
from nvae_tf.files import new_folder, write_json

_COPIED = ("config.json", "data.json", "metrics.jsonl")


def export_weights(nvae, out_dir, run_dir):
    """Writes the weights of a model as a run folder.

    If the model has the moving average of the weights, that becomes the weights of the new run.

    Args:
        nvae: `NVAE`, as returned by `nvae_tf.load_run` for the run, without a `batch_norm_temperature`.
        out_dir: new folder.
        run_dir: folder of the run.

    Returns:
        Paths of the files.

    Raises:
        FileExistsError: `out_dir` exists and is not empty.
        CheckpointError: the weights could not be written, or statistics cannot be read.
        ValueError: evaluation.json is damaged.
    """
    source, step = RunFolder(run_dir), nvae.restored_step
    evaluation = read_evaluation(source.path, nvae)
    with new_folder(out_dir) as folder:
        checkpoint = RunFolder(folder).save(step, {"model": model_variables(nvae)})
        for temperature in list_temperatures(source.step_folder(step), nvae.averaged):
            arrays = load_statistics(source.step_folder(step), temperature, nvae.averaged)
            save_statistics(checkpoint, temperature, False, arrays)
        for path in filter(pathlib.Path.exists, map(source.path.joinpath, _COPIED)):
            shutil.copy(path, folder)
        if evaluation:
            write_json(folder / "evaluation.json", evaluation | {"ema": False})  # the new run has no moving average
    return sorted(path for path in pathlib.Path(out_dir).rglob("*") if path.is_file())
