"""A training run: its data, model, trainer and run folder together. `prepare.prepare` creates it."""

import contextlib
import dataclasses
import faulthandler
import math
import sys
import time

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.checkpoint.figures import MetricsFile
from nvae_tf.config import flat_dict
from nvae_tf.data import batches
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.inference.model import refold
from nvae_tf.models.image_model import ImageModel
from nvae_tf.runs import prior_training
from nvae_tf.runs.checkpoints import Checkpoints
from nvae_tf.runs.evaluation_log import Evaluation, ImageLog
from nvae_tf.runs.interruption import Interrupted, Interruption
from nvae_tf.training.callbacks import Profile, ScalarLog
from nvae_tf.training.distributed import strategy as strategies
from nvae_tf.training.guards import NonFiniteLossError
from nvae_tf.training.trainer import Trainer


@dataclasses.dataclass
class TrainingRun:
    """A run that is ready to start or to resume.

    Attributes:
        config: `Config`, with the number of replicas.
        model: what is evaluated and saved; `trainer.model` is it, or the part of it that is trained.
        train_images, held_out: `ImageSet`s; the second has the validation images if there are any, else the test split.
        held_out_name: `"validation"` or `"test"`.
        interruption: `Interruption`, entered by the program.
        stopped: whether the run ended early because a process was asked to stop.
        watchdog_seconds: when no step has finished for this long, the stack of every thread goes to standard error;
            0 for never. Default 0.
    """

    folder: RunFolder
    config: object
    strategy: object
    model: ImageModel
    trainer: Trainer
    train_images: object
    held_out: object
    held_out_name: str
    interruption: Interruption
    stopped: bool = False
    watchdog_seconds: float = 0.0

    def __post_init__(self):
        self.metrics = MetricsFile(self.folder.path / "metrics.jsonl")
        self.log_dir = self.folder.path / "tensorboard"
        self._in_step = False
        self._folded = self._codes = None

    @property
    def is_chief(self):
        """Whether this process writes the run's files."""
        return strategies.worker_index(self.strategy) == 0

    @property
    def _parts(self):
        return {part: model_variables(layer) for part, layer in self.trainer.state.items()}

    def restore(self, before=None):
        """Restores the last readable checkpoint, only from `before` a step if given; returns its step, or None.

        Raises:
            CheckpointError: the workers do not see the same checkpoints.
        """
        step = self.folder.restore_latest(self._parts, before)
        # Once this returns, every worker has read the checkpoint and the chief may write again.
        steps = strategies.numbers_of_workers(self.strategy, -1 if step is None else step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"--run_dir: expected one folder that every worker sees. Received: checkpoints of the steps {steps}"
            )
        return step

    def save(self, milestone=False):
        """Writes a checkpoint; a milestone is kept permanently."""
        self.folder.save(self.trainer.step, self._parts, self.config.train.keep_checkpoints, milestone)

    def held_out_batches(self, batch_size, limit=0):
        """Batches of the first `limit` held-out images (0: all)."""
        config, seed = self.config, self.config.train.seed
        return batches.eval_batches(
            self.held_out, config.data, config.model.bit_depth, batch_size, seed, num_images=limit
        )

    def _train_batches(self):
        config, train = self.config, self.config.train
        shards = {"num_shards": train.num_replicas, "shard_indices": strategies.local_replicas(self.strategy)}
        order = train.batch_size, train.seed, self.trainer.step
        if train.stage == "prior":
            if self._codes is None:
                self._codes = prior_training.codes_of(self.model, self.train_images, config)
            return batches.row_batches(self._codes, *order, **shards)
        return batches.train_batches(self.train_images, config.data, config.model.bit_depth, *order, **shards)

    def folded(self):
        """The model to evaluate, as `refold` returns it; its weights are the moving average if there is one."""
        average = self.trainer.average
        with contextlib.nullcontext() if average is None else average.applied():
            self._folded = refold(self.model, self._folded)
        return self._folded

    def give_up_if_interrupted(self, *unused):
        """Raises `Interrupted` if the process has been asked to stop."""
        if self.interruption.requested:
            raise Interrupted

    def evaluate(self):
        """`LikelihoodResult` of the first `eval_images` held-out images."""
        images = self.held_out_batches(self.config.train.batch_size, self.config.train.eval_images)
        return evaluate(self.folded(), images, progress=self.give_up_if_interrupted)

    def callbacks(self, profile):
        """Callbacks of the run; they write to the run's folder, so only the chief has any."""
        if not self.is_chief:
            return []
        writer = tf.summary.create_file_writer(str(self.log_dir))
        if not self.trainer.step:
            with writer.as_default(0):
                # TensorBoard takes no tuples.
                values = flat_dict(self.config).items()
                hparams.hparams({name: str(value) if isinstance(value, tuple) else value for name, value in values})
        checkpoints = Checkpoints(self)
        return [
            *([Profile(self.log_dir, *profile)] if profile else []),
            ScalarLog(writer),
            checkpoints,
            Evaluation(self, writer, checkpoints),
            ImageLog(self, writer),
        ]

    def run(self, profile=None):
        """Trains to the end, or until a process is asked to stop; `profile` is (start, stop), the steps to profile."""
        trainer, start, first = self.trainer, time.monotonic(), self.trainer.step
        self.interruption.started = True
        workers = trainer.num_workers
        print(f"run folder: {self.folder.path} (TensorBoard: {self.log_dir})")
        replicas = f"; {trainer.num_replicas} replicas" if trainer.num_replicas > 1 else ""
        worker = f", this is worker {strategies.worker_index(self.strategy)} of {workers}" if workers > 1 else ""
        last = max(first, trainer.last_step)  # a run may be past the end that a smaller data set gives it
        print(f"steps {first} to {last}, {trainer.steps_per_epoch} an epoch{replicas}{worker}", flush=True)
        try:
            self._watch()
            self.train(self.callbacks(profile))
            # A worker that exits ends the others, and the chief may still be writing.
            strategies.numbers_of_workers(self.strategy, trainer.step)
        finally:
            faulthandler.cancel_dump_traceback_later()
        print(self._summary(trainer.step - first, time.monotonic() - start), flush=True)

    def _watch(self):
        """Restarts the timer of the watchdog, whose thread runs in C and prints even while Python hangs."""
        if self.watchdog_seconds:
            faulthandler.dump_traceback_later(self.watchdog_seconds, repeat=True, file=sys.__stderr__)

    def train(self, callbacks):
        """Takes steps until the last, or until a process is asked to stop, and calls the callbacks in between."""
        trainer = self.trainer
        self._call(callbacks, "on_start")
        while trainer.step < trainer.last_step and not self.stopped:
            try:
                self._take_steps(callbacks)
            except NonFiniteLossError as error:
                if not self._recover():
                    raise
                for callback in callbacks:
                    callback.on_recovery(trainer, error)
            except (ValueError, tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
                # Between steps the weights are sound; most likely an image can no longer be read.
                if not self._in_step and not isinstance(error, CheckpointError):
                    self._call(callbacks, "on_stop")
                    how = "once it is mended, the same command resumes the run"
                    print(f"stopped by an error after step {trainer.step}; {how}", flush=True)
                raise
        self._call(callbacks, "on_stop")

    def _take_steps(self, callbacks):
        trainer = self.trainer
        for shards in self._train_batches():
            self._in_step = True
            report = trainer.advance(*shards, stop=self.interruption.requested)
            self._in_step = False
            self._watch()
            self.stopped = float(report["stop"]) > 0 or (trainer.num_workers == 1 and self.interruption.requested)
            for callback in callbacks:
                callback.on_step(trainer, report)
            ended = trainer.step == trainer.last_step
            if not self.stopped and (ended or trainer.step % trainer.steps_per_epoch == 0):
                self._call(callbacks, "on_epoch", math.ceil(trainer.step / trainer.steps_per_epoch))
            if ended or self.stopped:
                return

    def _call(self, callbacks, event, *arguments):
        try:
            for callback in callbacks:
                getattr(callback, event)(self.trainer, *arguments)
        except Interrupted:
            # Other workers do not know yet. They learn of it from one more step, if there is one.
            self.stopped = self.trainer.num_workers == 1 or self.trainer.step == self.trainer.last_step

    def _recover(self):
        """Goes back to a checkpoint after a `NonFiniteLossError`; returns whether that was possible."""
        if not self.trainer.may_recover:
            return False
        # The weights of the last accepted step are those that ruined the steps after it, so its checkpoint is useless.
        step = self.restore(before=self.trainer.step - self.trainer.config.max_nonfinite_steps)
        if step is None:
            return False
        self.trainer.recover(step)
        return True

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
            facts.append(f"{trainer.num_left_out} steps skipped or repeated")
        if self.stopped:
            facts += [] if self.interruption.requested else ["another worker was asked to stop"]
            facts.append("the same command resumes it")
        return f"{'stopped' if self.stopped else 'done'}: {self.folder.path}, step {trainer.step}; " + "; ".join(facts)
