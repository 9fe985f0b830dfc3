"""Checkpoints of a run while it trains."""

import numpy as np

from nvae_tf.training.callbacks import Callback, is_due


class Checkpoints(Callback):
    """Saves the run every `checkpoint_epochs` epochs, every `checkpoint_steps` steps, and when it stops.

    After a step whose loss was not finite nothing is saved, because the weights are already non-finite. (A non-finite
    gradient of a finite loss is harmless: the loss scale was too high, and the step was skipped.)
    """

    def __init__(self, run):
        self._run = run
        self._saved = None
        self._sound = True

    def save(self, trainer):
        """Saves the state unless it is saved already; returns whether there is a checkpoint of this step."""
        if self._sound and self._saved != trainer.step:
            self._run.save(self._is_milestone(trainer))
            self._saved = trainer.step
        return self._saved == trainer.step

    @staticmethod
    def _is_milestone(trainer):
        epochs = trainer.config.milestone_epochs
        return bool(epochs) and trainer.step % (epochs * trainer.steps_per_epoch) == 0

    def on_start(self, trainer):
        self._saved = trainer.step  # just restored, or the initial state, which is not worth saving

    def on_step(self, trainer, report):
        self._sound = bool(np.isfinite(float(report["loss"])))
        steps = trainer.config.checkpoint_steps
        if steps and trainer.step % steps == 0:
            self.save(trainer)

    def on_epoch(self, trainer, epoch):
        if self._is_milestone(trainer) or is_due(trainer.config.checkpoint_epochs, trainer, epoch):
            self.save(trainer)

    def on_recovery(self, trainer, error):
        # Saved at once, so that a stop does not lose the smaller learning rate. Later checkpoints would ruin the run
        # again.
        self._run.folder.discard_after(trainer.step)
        self._sound, self._saved = True, None
        self.save(trainer)

    def on_stop(self, trainer):
        self.save(trainer)
