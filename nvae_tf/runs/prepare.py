"""Prepares a run to start or to resume; everything that can fail on bad input happens here."""

import contextlib
import dataclasses
import json
import zlib

import keras
import tensorflow as tf

from nvae_tf.baselines.code_priors import CodePriors
from nvae_tf.checkpoint import DamagedCheckpointError, RunFolder
from nvae_tf.config import ConfigError, config_to_dict, flat_dict
from nvae_tf.data import batches
from nvae_tf.runs import prior_training
from nvae_tf.runs.data import load_images, open_split, split_names
from nvae_tf.runs.data_record import DataRecord
from nvae_tf.runs.families import make_model
from nvae_tf.runs.training_run import TrainingRun
from nvae_tf.training.distributed import strategy as strategies
from nvae_tf.training.trainer import Trainer, configure_runtime

# Fields that may differ when a run resumes: what is logged and kept, when it stops, and what changes no numbers.
_MAY_CHANGE = {"data.cache_gib", "data.max_damaged"} | {
    f"train.{name}"
    for name in (
        "max_steps",
        "log_steps",
        "image_epochs",
        "eval_epochs",
        "eval_images",
        "checkpoint_epochs",
        "checkpoint_steps",
        "keep_checkpoints",
        "milestone_epochs",
        "autoencoder_run",
        "max_nonfinite_steps",
        "recovery_learning_rate",
        "remat",
    )
}


def check_has_optimizer(run_dir):
    """Raises ConfigError if the last checkpoint of a run folder, which need not exist, holds no optimiser."""
    folder = RunFolder(run_dir)
    with contextlib.suppress(DamagedCheckpointError):  # an earlier one is then restored
        if folder.steps() and "optimizer" not in folder.parts():
            raise ConfigError(f"--run_dir: expected a new folder, or a run with its optimiser. Received: {run_dir}")


def _check_resumable(config, stored):
    if config.model.family != stored.model.family:
        raise ConfigError(
            f"model.family: expected {stored.model.family!r}, as in the run folder. Received: {config.model.family!r}"
        )
    new, old = flat_dict(config), flat_dict(stored)
    if not old["train.num_replicas"]:  # a run from before the number was recorded
        new["train.num_replicas"] = 0
    changed = [name for name in new if name not in _MAY_CHANGE and new[name] != old[name]]
    if changed:
        lines = "".join(f"\n  {name}: expected {old[name]!r}. Received: {new[name]!r}" for name in changed)
        raise ConfigError(f"The run folder holds a run with another configuration:{lines}\nUse another --run_dir.")


def _with_replicas(config, num_replicas):
    wanted = config.train.num_replicas
    if wanted not in (0, num_replicas):
        raise ConfigError(f"train.num_replicas: expected {num_replicas}, the devices found. Received: {wanted}")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, num_replicas=num_replicas))


def _check_same_on_all_workers(strategy, config):
    """Raises ConfigError if workers differ: each computes the update itself and relies on the others doing the same."""
    digest = zlib.crc32(json.dumps(config_to_dict(config)).encode())
    digests = strategies.numbers_of_workers(strategy, digest)
    if len(set(digests)) > 1:
        others = [worker for worker, digest in enumerate(digests) if digest != digests[0]]
        raise ConfigError(
            "config: expected the same one on every worker, --config and all its overrides. Received: another than "
            f"worker 0's on worker {', '.join(map(str, others))}"
        )


def prepare(config, run_dir, data_dir, interruption, strategy=None, jit_compile=False, cache_dir=None, accept=False):
    """Loads the data, builds the model and restores the run's last checkpoint if there is one.

    Args:
        config: `Config`.
        run_dir: folder of the run; with several workers, one that all of them share.
        data_dir: folder of the data set's files.
        interruption: `Interruption`, entered.
        strategy: `tf.distribute.Strategy`; the current one if None. Default None.
        jit_compile: compile the step with XLA. Default False.
        cache_dir: see `load_images`. Default None.
        accept: go on with other images than those that the run began with. Default False.

    Returns:
        `TrainingRun`.

    Raises:
        ConfigError, CheckpointError, ValueError, OSError: with a message that names the field, file or folder.
    """
    strategy = strategy or tf.distribute.get_strategy()
    config = _with_replicas(config.validate(), strategy.num_replicas_in_sync)
    _check_same_on_all_workers(strategy, config)
    folder = RunFolder(run_dir)
    if folder.config_path.exists():
        stored = folder.config
        if stored.data.split_rule == "permutation":  # a run from before this field
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, split_rule="permutation"))
        _check_resumable(config, stored)
    train = config.train
    if train.stage == "prior" and not folder.steps():
        prior_training.check_autoencoder_run(config)
    record = DataRecord(run_dir, accept, training=True)
    where = {"cache_dir": cache_dir, "record": record}
    train_images = load_images(config, data_dir, "train", **where, more_splits=True)
    _, held_out_name, *others = split_names(config, data_dir)
    held_out = load_images(config, data_dir, held_out_name, **where)
    for name in others:
        record.check(name, open_split(config, data_dir, name))
    steps_per_epoch = batches.steps_per_epoch(len(train_images), train.batch_size, train.num_replicas)
    if strategies.worker_index(strategy) == 0:
        folder.create(config)
    configure_runtime()
    keras.utils.set_random_seed(train.seed)
    with strategy.scope():
        model = make_model(config, name=config.model.family)
        trained = model if train.stage != "prior" else CodePriors(model)
    trainer = Trainer(trained, train, steps_per_epoch, strategy, jit_compile)
    trainer.state["model"] = model
    run = TrainingRun(folder, config, strategy, model, trainer, train_images, held_out, held_out_name, interruption)
    trainer.step = run.restore() or 0
    if train.stage == "prior" and not trainer.step:
        prior_training.take_autoencoder(model, train.autoencoder_run)
    if run.is_chief:
        record.write(trainer.step)
    return run
