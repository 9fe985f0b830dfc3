"""Evaluations and pictures of a run, in TensorBoard and in metrics.jsonl.

Functions that evaluate and sample are handed in: this part does not import theirs.
"""

import numpy as np
import tensorflow as tf
import tqdm

from nvae_tf.evaluation.heat_map import heat_map
from nvae_tf.training.callbacks import Callback, is_due

_TEMPERATURES = (0.7, 0.8, 0.9, 1.0)


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
        if not is_due(trainer.config.image_epochs, trainer, epoch):
            return
        with self._writer.as_default(trainer.step):
            tf.summary.image("reconstructions", self._reconstructions()[np.newaxis])
            for temperature in _TEMPERATURES:
                tf.summary.image(f"samples/temperature_{temperature}", self._samples(temperature)[np.newaxis])


class Evaluation(Callback):
    """Evaluates on held-out images and writes the result to the log, TensorBoard and metrics.jsonl.

    TensorBoard also gets a heat map of the KL: a row for each group, coarsest first, a column for each evaluation.
    Where a run goes on and the evaluation of its last whole epoch is missing, it is made up for first.

    Args:
        writer: `tf.summary` writer.
        metrics: `MetricsFile`.
        evaluate: function of nothing that gives a dict of numbers, with "nelbo" in nats, and of lists with a number
            for each group, among them "kl_per_group".
        name: of the images, for the log.
        found: called with the trainer and the NELBO after each evaluation, or None. Default None.
    """

    def __init__(self, writer, metrics, evaluate, name, found=None):
        self._writer = writer
        self._metrics = metrics
        self._evaluate = evaluate
        self._name = name
        self._found = found

    def on_start(self, trainer):
        self._metrics.rewind(trainer.step)
        epoch, rest = divmod(trainer.step, trainer.steps_per_epoch)
        ended = trainer.step if rest and trainer.step == trainer.last_step else trainer.step - rest
        if ended and not any(row["step"] >= ended for row in self._metrics.read()):
            self.on_epoch(trainer, epoch + (ended > trainer.step - rest))

    def on_recovery(self, trainer, error):
        self._metrics.rewind(trainer.step)

    def on_epoch(self, trainer, epoch):
        if not is_due(trainer.config.eval_epochs, trainer, epoch):
            return
        results = self._evaluate()
        # First, for a run that is killed in between evaluates again.
        if self._found is not None:
            self._found(trainer, results["nelbo"])
        row = {"step": trainer.step, "epoch": epoch, "split": self._name, **results}
        self._metrics.append(row)
        scalars = {name: value for name, value in results.items() if not isinstance(value, list)}
        history = [row["kl_per_group"] for row in self._metrics.read() if row["split"] == self._name]
        with self._writer.as_default(trainer.step):
            for name, value in scalars.items():
                tf.summary.scalar(f"{self._name}/{name}", value)
            tf.summary.image(f"{self._name}/kl_per_group", heat_map(np.transpose(history))[np.newaxis])
        values = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        tqdm.tqdm.write(f"epoch {epoch}, step {trainer.step}  {self._name}: {values}")
