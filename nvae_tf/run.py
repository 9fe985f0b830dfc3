"""From a run's folder to a model."""

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.models.nvae import NVAE


def load_run(run_dir, step=None):
    """Builds the model of a run and gives it the weights of a checkpoint.

    The folder may come from training or from conversion; only the model's part of the checkpoint is read.

    Args:
        run_dir: folder with `config.json` and `checkpoints/`.
        step: of the checkpoint; None for the latest. Default None.

    Returns:
        `NVAE`; its `config` attribute is the run's `Config`.

    Raises:
        CheckpointError: the folder has no configuration or no such checkpoint, or the weights do not fit.
        ConfigError: `config.json` does not hold a configuration.
    """
    folder = RunFolder(run_dir)
    config = folder.config
    step = folder.resolve_step(step)
    model = NVAE(config.model)
    folder.restore({"model": model_variables(model)}, step)
    model.config = config
    return model
