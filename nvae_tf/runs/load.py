"""From a run's folder to a model."""

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.checkpoint.statistics import load_statistics
from nvae_tf.evaluation.readjust import assign_statistics
from nvae_tf.models.nvae import NVAE

_AVERAGE = "ema"  # the part of a checkpoint that training writes it to


def load_run(run_dir, step=None, average=True, batch_norm_temperature=None):
    """Builds the model of a run and gives it the weights of a checkpoint.

    The folder may come from training or from conversion; only the model's part of the checkpoint is read, and the
    moving average of the weights where the run keeps one.

    Args:
        run_dir: folder with `config.json` and `checkpoints/`.
        step: of the checkpoint, or `"best"`; None for the latest that can be read. Default None.
        average: take the moving average of the weights where there is one. Default True.
        batch_norm_temperature: take the batch-norm statistics that tools/readjust_bn.py made for samples at this
            temperature; None for the checkpoint's own. Default None.

    Returns:
        `NVAE`; its `config` attribute is the run's `Config`, `restored_step` the checkpoint's step, and `averaged` says
        whether it has the average.

    Raises:
        CheckpointError: the folder has no configuration, no such checkpoint or no such statistics, or the weights do
            not fit.
        ConfigError: `config.json` does not hold a configuration.
    """
    folder = RunFolder(run_dir)
    config = folder.config
    folder.resolve_step(step)  # says so where there is none, before the model is built
    model = NVAE(config.model)
    variables = model_variables(model)
    parts = {"model": variables}
    step = folder.restore_latest(parts) if step is None else folder.restore(parts, step)
    model.restored_step = step
    model.averaged = average and _AVERAGE in folder.parts(step)
    if model.averaged:
        folder.restore({_AVERAGE: {name: v for name, v in variables.items() if v.trainable}}, step)
    if batch_norm_temperature is not None:
        assign_statistics(model, load_statistics(folder.step_folder(step), batch_norm_temperature, model.averaged))
    model.config = config
    return model
