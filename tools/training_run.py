"""Puts data, model, trainer, TensorBoard and checkpoints of one run together, for train.py and quickstart.py."""

import dataclasses

import tensorflow as tf
from absl import logging
from run_images import load_images

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import ConfigError, config_to_dict
from nvae_tf.data import pipeline
from nvae_tf.evaluation.images import grid
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import crop_padding, reconstruct, sample_images
from nvae_tf.models.nvae import NVAE
from nvae_tf.training import callbacks
from nvae_tf.training.trainer import Trainer, configure_runtime

_NUM_PICTURES = 64
# Fields that may differ when a run goes on: what is logged and kept, and when it stops.
_MAY_CHANGE = {
    f"train.{name}"
    for name in (
        "max_steps",
        "log_steps",
        "image_epochs",
        "eval_epochs",
        "eval_images",
        "checkpoint_epochs",
        "keep_checkpoints",
    )
}


def _flat(config):
    return {f"{part}.{name}": v for part, values in config_to_dict(config).items() for name, v in values.items()}


def check_resumable(config, stored):
    """Raises ConfigError where the config of a run that goes on differs in what cannot change."""
    new, old = _flat(config), _flat(stored)
    changed = [name for name in new if name not in _MAY_CHANGE and new[name] != old[name]]
    if changed:
        lines = "".join(f"\n  {name}: expected {old[name]!r}. Received: {new[name]!r}" for name in changed)
        raise ConfigError(f"The run folder holds a run with another configuration:{lines}\nUse another --run_dir.")


def pictures_of(model, images):
    """uint8 grid of originals, each beside its reconstruction; images [B, H, W, C] in [0, 1]."""
    originals = crop_padding(tf.convert_to_tensor(images), model.model_config.padding)
    pairs = tf.stack([originals, reconstruct(model, images)], axis=1)
    return grid(tf.reshape(pairs, [-1, *originals.shape[1:]]).numpy(), columns=16)


@dataclasses.dataclass
class TrainingRun:
    """A run that can start or go on.

    Attributes:
        folder: `RunFolder`.
        trainer: `Trainer`, restored to the last checkpoint where there is one.
        train_images, held_out: uint8 arrays; validation images where the config holds some out, else the test split.
        held_out_name: `"validation"` or `"test"`.
    """

    folder: RunFolder
    config: object
    trainer: Trainer
    train_images: object
    held_out: object
    held_out_name: str

    @property
    def parts(self):
        """What a checkpoint holds."""
        return {part: model_variables(layer) for part, layer in self.trainer.state.items()}

    def held_out_batches(self, batch_size, limit=0):
        """Batches of the first `limit` held-out images (0: all)."""
        images = self.held_out[: limit or None]
        config = self.config
        return pipeline.eval_batches(images, config.data, config.model.bit_depth, batch_size, config.train.seed)

    def _evaluate(self):
        train = self.config.train
        result = evaluate(self.trainer.model, self.held_out_batches(train.batch_size, train.eval_images))
        return {
            "nelbo": result.nelbo,
            "nelbo_bits_per_dim": result.nelbo_bits_per_dim,
            "kl": result.kl,
            "reconstruction": -result.reconstruction,
            "active_units": float(sum(result.active_units)),
        }

    def callbacks(self):
        """The callbacks of the run; they write below the run's folder."""
        train, model = self.config.train, self.trainer.model
        writer = tf.summary.create_file_writer(str(self.folder.path / "tensorboard"))
        throughput = callbacks.Throughput(train.batch_size)
        pictured = next(iter(self.held_out_batches(_NUM_PICTURES, _NUM_PICTURES)))
        return [
            throughput,
            callbacks.ScalarLog(writer, throughput),
            callbacks.Checkpoints(lambda step: self.folder.save(step, self.parts, train.keep_checkpoints)),
            callbacks.Evaluation(writer, self._evaluate, self.held_out_name),
            callbacks.ImageLog(
                writer,
                lambda: pictures_of(model, pictured),
                lambda temperature: grid(sample_images(model, _NUM_PICTURES, temperature, train.seed)),
            ),
        ]

    def run(self):
        """Trains to the end."""
        train, trainer = self.config.train, self.trainer
        print(f"run folder: {self.folder.path} (TensorBoard: {self.folder.path / 'tensorboard'})", flush=True)
        print(f"steps {trainer.step} to {trainer.last_step}, {trainer.steps_per_epoch} an epoch", flush=True)
        batches = pipeline.train_batches(
            self.train_images,
            self.config.data,
            self.config.model.bit_depth,
            train.batch_size,
            train.seed,
            start_step=trainer.step,
        )
        print("tracing the step, which takes a while for deep models ...", flush=True)
        trainer.run(batches, self.callbacks())


def prepare(config, run_dir, data_dir):
    """Loads the data, builds the model and restores the run's last checkpoint; all that can fail on bad input.

    Raises:
        ConfigError, CheckpointError, ValueError, OSError: with a message that names the field, file or folder.
    """
    import keras

    config.validate()
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint otherwise
    folder = RunFolder(run_dir)
    if folder.config_path.exists():
        check_resumable(config, folder.config)
    train_images = load_images(config, data_dir, "train")
    held_out_name = "validation" if config.data.validation_images else "test"
    held_out = load_images(config, data_dir, held_out_name)
    steps_per_epoch = pipeline.steps_per_epoch(len(train_images), config.train.batch_size)
    folder.create(config)
    configure_runtime()
    keras.utils.set_random_seed(config.train.seed)
    trainer = Trainer(NVAE(config.model, name="nvae"), config.train, steps_per_epoch)
    run = TrainingRun(folder, config, trainer, train_images, held_out, held_out_name)
    if folder.latest_step() is not None:
        trainer.step = folder.restore(run.parts)
    return run
