"""Loading the model of a run."""

import dataclasses

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.checkpoint.statistics import load_statistics
from nvae_tf.evaluation.readjust import assign_statistics
from nvae_tf.inference.model import refold
from nvae_tf.runs.families import make_model, require_folding
from nvae_tf.runs.trainable_nvae import TrainableNVAE

_AVERAGE = "ema"  # the part of a checkpoint with the moving average of the weights


def load_run(run_dir, step=None, average=True, batch_norm_temperature=None):
    """Builds the model of a run with the weights of a checkpoint.

    The folder may come from training or from conversion.

    Args:
        run_dir: folder with `config.json` and `checkpoints/`.
        step: step of the checkpoint, or `"best"`; None for the latest readable one. Default None.
        average: use the moving average of the weights if the run keeps one. Default True.
        batch_norm_temperature: use the batch-norm statistics that tools/readjust_bn.py made for samples at this
            temperature; None for those of the checkpoint. Default None.

    Returns:
        `nvae_tf.NVAE`, compiled with the run's configuration, or the model of another family, with extra attributes:
        `config`, the run's `Config`; `restored_step`, the step of the checkpoint; and `averaged`, whether it has the
        average of the weights.

    Raises:
        CheckpointError: the folder has no configuration, no such checkpoint or no such statistics, or the weights do
            not fit.
        ConfigError: `config.json` does not hold a configuration.
        ValueError: `batch_norm_temperature` is given for a model of another family than NVAE.
    """
    folder = RunFolder(run_dir)
    config = folder.config
    # These raise before the model is built.
    folder.resolve_step(step)
    if batch_norm_temperature is not None:
        require_folding(config, "batch_norm_temperature")
    model = make_model(config)
    variables = model_variables(model)
    parts = {"model": variables}
    step = folder.restore_latest(parts) if step is None else folder.restore(parts, step)
    model.restored_step = step
    model.averaged = average and _AVERAGE in folder.parts(step)
    if model.averaged:
        folder.restore({_AVERAGE: {name: v for name, v in variables.items() if v.trainable}}, step)
    if batch_norm_temperature is not None:
        assign_statistics(model, load_statistics(folder.step_folder(step), batch_norm_temperature, model.averaged))
    if isinstance(model, TrainableNVAE):
        model.compile(config.train, config.data.binarize)
    model.config, model.run_dir, model.batch_norm_temperature = config, folder.path, batch_norm_temperature
    return model


@dataclasses.dataclass(frozen=True, slots=True)
class ChosenWeights:
    """Weights of a run that exist, not yet loaded: what `choose_weights` returns. Can be pickled.

    Attributes:
        run_dir: absolute path of the run.
        restored_step: step of the checkpoint.
        averaged: whether to use its average of the weights.
        batch_norm_temperature: see `load_run`.
    """

    run_dir: str
    restored_step: int
    averaged: bool
    batch_norm_temperature: float | None

    def load_folded(self):
        """The model, as `load_folded` returns it."""
        return load_folded(self.run_dir, self.restored_step, self.averaged, self.batch_norm_temperature)


def choose_weights(run_dir, step=None, average=True, batch_norm_temperature=None):
    """The `ChosenWeights` that `load_run`, whose arguments and errors these are, would load; builds no model.

    A damaged checkpoint is not replaced by the one before it, so that several processes load the same weights.
    """
    folder = RunFolder(run_dir)
    step = folder.resolve_step(step)
    averaged = average and _AVERAGE in folder.parts(step)
    if batch_norm_temperature is not None:
        require_folding(folder.config, "batch_norm_temperature")
        load_statistics(folder.step_folder(step), batch_norm_temperature, averaged)
    return ChosenWeights(str(folder.path.absolute()), step, averaged, batch_norm_temperature)


def load_folded(run_dir, step=None, average=True, batch_norm_temperature=None, strategy=None):
    """The model of a run, as `refold` returns it, with the extra attributes of `load_run`, whose arguments it takes.

    Its variables are created in the scope of `strategy`, a `tf.distribute.Strategy`; None for one device. Default None.
    """
    nvae = load_run(run_dir, step, average, batch_norm_temperature)
    model = refold(nvae, strategy=strategy)
    model.config, model.averaged, model.restored_step = nvae.config, nvae.averaged, nvae.restored_step
    return model
