"""Evaluations and pictures while a run trains, in TensorBoard and in metrics.jsonl."""

import math

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.heat_map import heat_map
from nvae_tf.evaluation.sampling import reconstruction_grid, sample_images
from nvae_tf.evaluation.write_images import grid
from nvae_tf.training.callbacks import Callback, is_due

_TEMPERATURES = (0.7, 0.8, 0.9, 1.0)
_NUM_PICTURES = 64


class ImageLog(Callback):
    """Writes grids of reconstructions, and of samples at temperatures 0.7, 0.8, 0.9 and 1.0, to TensorBoard."""

    def __init__(self, run, writer):
        self._run = run
        self._writer = writer
        self._images = next(iter(run.held_out_batches(_NUM_PICTURES, _NUM_PICTURES)))

    def on_epoch(self, trainer, epoch):
        if not is_due(trainer.config.image_epochs, trainer, epoch):
            return
        model = self._run.folded()
        with self._writer.as_default(trainer.step):
            tf.summary.image("reconstructions", reconstruction_grid(model, self._images)[np.newaxis])
            for temperature in _TEMPERATURES:
                self._run.give_up_if_interrupted()
                samples = sample_images(model, _NUM_PICTURES, temperature, trainer.config.seed)
                tf.summary.image(f"samples/temperature_{temperature}", grid(samples)[np.newaxis])


class Evaluation(Callback):
    """Evaluates on held-out images; writes the result to the log, TensorBoard and metrics.jsonl, and marks the best.

    TensorBoard also gets a heat map of the KL: a row for each group, coarsest first, and a column for each evaluation.
    A resumed run first makes up for the evaluation of its last whole epoch if that is missing.
    """

    def __init__(self, run, writer, checkpoints):
        self._run = run
        self._writer = writer
        self._checkpoints = checkpoints

    def on_start(self, trainer):
        self._run.metrics.rewind(trainer.step)
        epoch, rest = divmod(trainer.step, trainer.steps_per_epoch)
        ended = trainer.step if rest and trainer.step == trainer.last_step else trainer.step - rest
        if ended and not any(row["step"] >= ended for row in self._run.metrics.read()):
            self.on_epoch(trainer, epoch + (ended > trainer.step - rest))

    def on_recovery(self, trainer, error):
        self._run.metrics.rewind(trainer.step)

    def on_epoch(self, trainer, epoch):
        if not is_due(trainer.config.eval_epochs, trainer, epoch):
            return
        run, split, result = self._run, self._run.held_out_name, self._run.evaluate()
        # Choosing a checkpoint by the test images would spoil their NELBO as a measure of the model. The mark comes
        # before the line in metrics.jsonl: a run that is killed in between evaluates again.
        best = (run.folder.best() or {"nelbo": math.inf})["nelbo"]
        if split == "validation" and result.nelbo < best and self._checkpoints.save(trainer):
            run.folder.mark_best(trainer.step, result.nelbo)
        scalars = {
            "nelbo": result.nelbo,
            "nelbo_bits_per_dim": result.nelbo_bits_per_dim,
            "kl": result.kl,
            "reconstruction": -result.reconstruction,
            "active_units": float(sum(result.active_units)),
        }
        groups = {"kl_per_group": result.kl_per_group, "active_units_per_group": result.active_units}
        run.metrics.append({"step": trainer.step, "epoch": epoch, "split": split, **scalars, **groups})
        history = [row["kl_per_group"] for row in run.metrics.read() if row["split"] == split]
        with self._writer.as_default(trainer.step):
            for name, value in scalars.items():
                tf.summary.scalar(f"{split}/{name}", value)
            tf.summary.image(f"{split}/kl_per_group", heat_map(np.transpose(history))[np.newaxis])
        values = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        print(f"epoch {epoch}, step {trainer.step}  {split}: {values}", flush=True)
