"""Training of the priors of a VQ-VAE-2 on the codes of a trained autoencoder (`train.stage` = `"prior"`)."""

import dataclasses

import numpy as np
import tensorflow as tf

from nvae_tf.checkpoint import RunFolder
from nvae_tf.config import ConfigError
from nvae_tf.data.batches import eval_batches
from nvae_tf.data.image_set import stand_ins
from nvae_tf.runs.load import load_run

_BATCH_SIZE = 64
_OF_PRIORS = ("prior_", "condition_")  # what the names of the fields of the priors begin with


def check_autoencoder_run(config):
    """Raises ConfigError if the run `train.autoencoder_run` has another autoencoder; CheckpointError if it has none."""
    folder = RunFolder(config.train.autoencoder_run)
    theirs = {"family": folder.config.model.family, **dataclasses.asdict(folder.config.model)}
    folder.resolve_step()
    for name, value in dataclasses.asdict(config.model).items():
        if not name.startswith(_OF_PRIORS) and theirs.get(name) != value:
            raise ConfigError(
                f"train.autoencoder_run: expected a run with model.{name} {value!r}. "
                f"Received: {folder.path}, with {theirs.get(name)!r}"
            )


def take_autoencoder(model, run_dir):
    """Gives a `VQVAE2` the autoencoder of a run."""
    autoencoder = load_run(run_dir).autoencoder
    for variable, value in zip(model.autoencoder.variables, autoencoder.variables, strict=True):
        variable.assign(value)


def codes_of(model, images, config):
    """Codes of an `ImageSet`, int32 [N, codes of all levels], as `CodePriors` takes them.

    Images are prepared as in evaluation. Damaged ones have the codes of those that take their places.
    """

    @tf.function(autograph=False)
    def encode(batch):
        levels = model.autoencoder.encode(2.0 * batch - 1.0)
        return tf.concat([tf.reshape(level.codes, [tf.shape(batch)[0], -1]) for level in levels], axis=1)

    batches = eval_batches(images, config.data, config.model.bit_depth, _BATCH_SIZE, config.train.seed)
    codes = np.concatenate([encode(batch) for batch in batches])
    damaged = np.setdiff1d(np.arange(len(images)), images.good)
    return codes[np.searchsorted(images.good, stand_ins(len(images), damaged))]
