"""Data, model, trainer, TensorBoard and checkpoints of one run together; `prepare_run.prepare` makes it."""

import contextlib
import dataclasses
import math
import time

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.checkpoint.figures import MetricsFile
from nvae_tf.config import flat_dict
from nvae_tf.data import batches as pipeline
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import reconstruct, sample_images
from nvae_tf.evaluation.write_images import grid
from nvae_tf.models.pixels import crop_padding
from nvae_tf.runs import evaluation_log
from nvae_tf.runs.interruption import Interruption
from nvae_tf.runs.watchdog import Watchdog
from nvae_tf.training import callbacks
from nvae_tf.training.distributed import strategy as strategies
from nvae_tf.training.errors import Interrupted
from nvae_tf.training.trainer import Trainer

_NUM_PICTURES = 64


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
        config: `Config`, with the number of replicas.
        strategy: `tf.distribute.Strategy`.
        trainer: `Trainer`, restored to the last checkpoint where there is one.
        train_images, held_out: `ImageSet`; the latter of validation images where there are any, else the test split.
        held_out_name: `"validation"` or `"test"`.
        interruption: `Interruption`, entered by the program.
    """

    folder: RunFolder
    config: object
    strategy: object
    trainer: Trainer
    train_images: object
    held_out: object
    held_out_name: str
    interruption: Interruption

    def __post_init__(self):
        self.metrics = MetricsFile(self.folder.path / "metrics.jsonl")
        self.log_dir = self.folder.path / "tensorboard"
        self.trainer.stop_requested = lambda: self.interruption.requested

    @property
    def is_chief(self):
        """Whether this process writes the run's files."""
        return strategies.worker_index(self.strategy) == 0

    @property
    def parts(self):
        """What a checkpoint holds."""
        return {part: model_variables(layer) for part, layer in self.trainer.state.items()}

    def restore(self, before=None):
        """Brings the state back to the last checkpoint that can be read, on all workers; its step, or None.

        Args:
            before: only checkpoints of earlier steps count; None for all. Default None.

        Raises:
            CheckpointError: the workers do not see the same checkpoints.
        """
        step = self.folder.restore_latest(self.parts, before)
        # Every worker has read when this returns, and the chief may write again.
        steps = strategies.numbers_of_workers(self.strategy, -1 if step is None else step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"--run_dir: expected one folder that every worker sees. Received: checkpoints of the steps {steps}"
            )
        return step

    def save(self, step, milestone=False):
        """Writes a checkpoint."""
        self.folder.save(step, self.parts, self.config.train.keep_checkpoints, milestone)

    def held_out_batches(self, batch_size, limit=0):
        """Batches of the first `limit` held-out images (0: all)."""
        config, seed = self.config, self.config.train.seed
        return pipeline.eval_batches(
            self.held_out, config.data, config.model.bit_depth, batch_size, seed, num_images=limit
        )

    def evaluated_weights(self):
        """Context in which the model has the weights that count: their moving average where the run keeps one."""
        average = self.trainer.average
        return contextlib.nullcontext() if average is None else average.applied()

    def _give_up_if_interrupted(self, *unused):
        if self.interruption.requested:
            raise Interrupted

    def _evaluate(self):
        train = self.config.train
        batches = self.held_out_batches(train.batch_size, train.eval_images)
        with self.evaluated_weights():
            result = evaluate(self.trainer.model, batches, progress=self._give_up_if_interrupted)
        return {
            "nelbo": result.nelbo,
            "nelbo_bits_per_dim": result.nelbo_bits_per_dim,
            "kl": result.kl,
            "reconstruction": -result.reconstruction,
            "active_units": float(sum(result.active_units)),
            "kl_per_group": result.kl_per_group,
            "active_units_per_group": result.active_units,
        }

    def _reconstructions(self, images):
        with self.evaluated_weights():
            return pictures_of(self.trainer.model, images)

    def _samples(self, temperature):
        self._give_up_if_interrupted()
        with self.evaluated_weights():
            return grid(sample_images(self.trainer.model, _NUM_PICTURES, temperature, self.config.train.seed))

    def callbacks(self, profile=None):
        """The callbacks of the run; they write below the run's folder, so only the chief has any.

        Args:
            profile: (start, stop), steps of which a profile is written; None for no profile. Default None.
        """
        if not self.is_chief:
            return []
        train = self.config.train
        writer = tf.summary.create_file_writer(str(self.log_dir))
        if not self.trainer.step:
            with writer.as_default(0):
                hparams.hparams(flat_dict(self.config))
        throughput = callbacks.Throughput(train.batch_size * train.num_replicas)
        checkpoints = callbacks.Checkpoints(self.save, self.folder.discard_after)

        def found(trainer, nelbo):
            # Choosing by the test images would make their NELBO no measure of the model any more.
            best = self.folder.best() or {"nelbo": math.inf}
            if self.held_out_name == "validation" and nelbo < best["nelbo"] and checkpoints.save(trainer):
                self.folder.mark_best(trainer.step, nelbo)

        pictured = next(iter(self.held_out_batches(_NUM_PICTURES, _NUM_PICTURES)))
        profiles = [callbacks.Profile(self.log_dir, *profile)] if profile else []
        return [
            *profiles,
            throughput,
            callbacks.ScalarLog(writer, throughput),
            checkpoints,
            evaluation_log.Evaluation(writer, self.metrics, self._evaluate, self.held_out_name, found),
            evaluation_log.ImageLog(writer, lambda: self._reconstructions(pictured), self._samples),
        ]

    def _batches(self, start_step):
        train, config = self.config.train, self.config
        return pipeline.train_batches(
            self.train_images,
            config.data,
            config.model.bit_depth,
            train.batch_size,
            train.seed,
            start_step,
            num_shards=train.num_replicas,
            shard_indices=strategies.local_replicas(self.strategy),
        )

    def run(self, profile=None, watchdog_seconds=600.0):
        """Trains to the end, or until the process is asked to stop.

        Args:
            profile: as of `callbacks`.
            watchdog_seconds: how long a step may take before it is logged; 0 for any time. Default 600.
        """
        trainer, start = self.trainer, time.monotonic()
        workers, index = strategies.num_workers(self.strategy), strategies.worker_index(self.strategy)
        print(f"run folder: {self.folder.path} (TensorBoard: {self.log_dir})")
        replicas = f"; {trainer.num_replicas} replicas" if trainer.num_replicas > 1 else ""
        worker = f", this is worker {index} of {workers}" if workers > 1 else ""
        steps = f"steps {trainer.step} to {trainer.last_step}, {trainer.steps_per_epoch} an epoch"
        print(f"{steps}{replicas}{worker}", flush=True)
        first = trainer.step
        with Watchdog(trainer, watchdog_seconds, f"worker {index} of {workers}"):
            trainer.run(self._batches, self.callbacks(profile), self.restore)
            # A worker that is gone ends the others, and the chief may still be writing.
            trainer.enter("waiting for the other workers to end")
            strategies.numbers_of_workers(self.strategy, trainer.step)
        print(self._summary(trainer.step - first, time.monotonic() - start), flush=True)

    def _summary(self, steps, seconds):
        trainer, batch = self.trainer, self.config.train.batch_size * self.trainer.num_replicas
        facts = [f"{steps} steps in {seconds:.0f} s ({steps * batch / max(seconds, 1e-9):.1f} images/s in all)"]
        rows = self.metrics.read() if self.is_chief else []
        if rows:
            last = rows[-1]
            nelbo, bits = (math.nan if last[name] is None else last[name] for name in ("nelbo", "nelbo_bits_per_dim"))
            facts.append(f"{last['split']} nelbo {nelbo:.2f} nats, {bits:.4f} bits/dim at step {last['step']}")
        best = self.folder.best() if self.is_chief else None
        if best:
            facts.append(f"best {best['nelbo']:.2f} at step {best['step']}")
        if trainer.num_left_out:
            facts.append(f"{trainer.num_left_out} steps left out or taken again")
        name = "done"
        if trainer.stopped:
            name = "stopped"
            facts += [] if self.interruption.requested else ["another worker was asked to stop"]
            facts.append("the same command goes on")
        return f"{name}: {self.folder.path}, step {trainer.step}; " + "; ".join(facts)
