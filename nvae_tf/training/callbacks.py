"""What happens between steps: the log, TensorBoard scalars and images, evaluations, checkpoints.

Functions that evaluate, sample or save are handed in: this part does not import theirs.
"""

import sys
import time

import numpy as np
import tensorflow as tf
import tqdm

_ACTIVE_THRESHOLD = 0.01  # nats; mean KL above which a latent channel counts as active
_TEMPERATURES = (0.7, 0.8, 0.9, 1.0)


def _every(epochs, trainer, epoch):
    """Whether something due every `epochs` epochs (0: never) is due now; always at the end of the run."""
    return bool(epochs) and (epoch % epochs == 0 or trainer.step == trainer.last_step)


class Callback:
    """Does nothing; the methods to override."""

    def on_step(self, trainer, report):
        """After each step; `report` is the dict of `Trainer.advance`."""

    def on_epoch(self, trainer, epoch):
        """After each whole epoch (counted from 1), and at the end of the run."""


class Throughput(Callback):
    """Images per second since the last time it was asked.

    The first step and the first after each epoch are left out: they come with tracing, evaluation, saving.

    Args:
        batch_size: images of a step, all replicas together.
    """

    def __init__(self, batch_size):
        self._batch_size = batch_size
        self._images = 0
        self._seconds = 0.0
        self._last = None

    def on_step(self, trainer, report):
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._images += self._batch_size
        self._last = now

    def on_epoch(self, trainer, epoch):
        self._last = None

    def read(self):
        """Images per second since the last call; 0 where no step counted."""
        rate = self._images / max(self._seconds, 1e-9)
        self._images, self._seconds = 0, 0.0
        return rate


class ScalarLog(Callback):
    """Writes the terms of the objective to the log and to TensorBoard, every `log_steps` steps.

    The log is a progress bar on a terminal, plain lines elsewhere. All terms in nats.

    Args:
        writer: `tf.summary` writer.
        throughput: `Throughput`.
    """

    def __init__(self, writer, throughput):
        self._writer = writer
        self._throughput = throughput
        self._bar = None

    def on_step(self, trainer, report):
        if self._bar is None and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=trainer.last_step, initial=trainer.step - 1, unit="step")
        if self._bar is not None:
            self._bar.update(trainer.step - self._bar.n)
        if trainer.step % trainer.config.log_steps == 0 or trainer.step == trainer.last_step:
            values = {name: np.asarray(value) for name, value in report.items()}
            self._write(trainer, values, self._throughput.read())
        if self._bar is not None and trainer.step == trainer.last_step:
            self._bar.close()

    def _write(self, trainer, values, rate):
        nelbo = values["reconstruction"] + values["kl"]
        active = np.sum(values["kl_per_channel"] > _ACTIVE_THRESHOLD, axis=1)
        with self._writer.as_default(trainer.step):
            tf.summary.scalar("train/nelbo", nelbo)
            for name in ("loss", "reconstruction", "kl", "spectral", "batch_norm"):
                tf.summary.scalar(f"train/{name}", values[name])
            for name in ("kl_weight", "regularization", "learning_rate"):
                tf.summary.scalar(f"schedule/{name}", values[name])
            tf.summary.scalar("train/images_per_second", rate)
            tf.summary.scalar("active_units/total", active.sum())
            for group, kl in enumerate(values["kl_per_group"]):
                tf.summary.scalar(f"kl_per_group/{group:02d}", kl)
                tf.summary.scalar(f"kl_coefficients/{group:02d}", values["kl_coefficients"][group])
                tf.summary.scalar(f"active_units/{group:02d}", active[group])
        line = (
            f"step {trainer.step}/{trainer.last_step}  loss {values['loss']:.2f}  nelbo {nelbo:.2f}  "
            f"reconstruction {values['reconstruction']:.2f}  kl {values['kl']:.2f}  active {active.sum()}  "
            f"lr {values['learning_rate']:.2e}  {rate:.1f} images/s"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(f"nelbo {nelbo:.2f}, {rate:.0f} images/s")
        else:
            print(line, flush=True)


class ImageLog(Callback):
    """Writes grids of reconstructions, and of samples at 0.7, 0.8, 0.9 and 1.0, to TensorBoard.

    Args:
        writer: `tf.summary` writer.
        reconstructions: function of nothing that gives a uint8 grid [H, W, C].
        samples: function of a temperature that gives a uint8 grid [H, W, C].
    """

    def __init__(self, writer, reconstructions, samples):
        self._writer = writer
        self._reconstructions = reconstructions
        self._samples = samples

    def on_epoch(self, trainer, epoch):
        if not _every(trainer.config.image_epochs, trainer, epoch):
            return
        with self._writer.as_default(trainer.step):
            tf.summary.image("reconstructions", self._reconstructions()[np.newaxis])
            for temperature in _TEMPERATURES:
                tf.summary.image(f"samples/temperature_{temperature}", self._samples(temperature)[np.newaxis])


class Evaluation(Callback):
    """Evaluates on held-out images and writes the result to TensorBoard and the log.

    Args:
        writer: `tf.summary` writer.
        evaluate: function of nothing that gives a dict of scalars, with "nelbo" in nats.
        name: of the images, for the log.
    """

    def __init__(self, writer, evaluate, name):
        self._writer = writer
        self._evaluate = evaluate
        self._name = name

    def on_epoch(self, trainer, epoch):
        if not _every(trainer.config.eval_epochs, trainer, epoch):
            return
        results = self._evaluate()
        with self._writer.as_default(trainer.step):
            for name, value in results.items():
                tf.summary.scalar(f"{self._name}/{name}", value)
        values = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
        tqdm.tqdm.write(f"epoch {epoch}, step {trainer.step}  {self._name}: {values}")


class Checkpoints(Callback):
    """Saves the run every `checkpoint_epochs` epochs.

    Args:
        save: function of a step.
    """

    def __init__(self, save):
        self._save = save

    def on_epoch(self, trainer, epoch):
        if _every(trainer.config.checkpoint_epochs, trainer, epoch):
            self._save(trainer.step)
