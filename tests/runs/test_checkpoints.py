"""Which steps of a run are saved."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.runs.checkpoints import Checkpoints

SOUND = {"loss": tf.constant(1.0)}


def _train(run, trainer):
    """Runs five epochs of two steps; returns (step, milestone) of what is saved."""
    checkpoints = Checkpoints(run)
    checkpoints.on_start(trainer)
    for trainer.step in range(1, 11):
        checkpoints.on_step(trainer, SOUND)
        if trainer.step % 2 == 0:
            checkpoints.on_epoch(trainer, trainer.step // 2)
    checkpoints.on_stop(trainer)
    return run.saved


@pytest.mark.parametrize("period, expected", [(1, [2, 4, 6, 8, 10]), (2, [4, 8, 10]), (9, [10])])
def test_saved_every_few_epochs_and_at_the_end(run, trainer, period, expected):
    trainer.config.checkpoint_epochs = period
    assert [step for step, _ in _train(run, trainer)] == expected


def test_saved_every_few_steps_and_at_milestones(run, trainer):
    trainer.config.checkpoint_epochs, trainer.config.checkpoint_steps, trainer.config.milestone_epochs = 9, 3, 2
    assert _train(run, trainer) == [(3, False), (4, True), (6, False), (8, True), (9, False), (10, False)]


def test_nothing_is_saved_after_a_non_finite_loss(run, trainer):
    checkpoints = Checkpoints(run)
    trainer.config.checkpoint_steps = 1
    for trainer.step, loss in enumerate((1.0, np.nan, np.inf, 2.0), start=1):
        checkpoints.on_step(trainer, {"loss": tf.constant(loss)})
        checkpoints.on_stop(trainer)
    assert [step for step, _ in run.saved] == [1, 4]


def test_run_that_stops_is_saved_once_and_as_a_milestone_if_it_is_one(run, trainer):
    checkpoints = Checkpoints(run)
    trainer.config.milestone_epochs = 2
    checkpoints.on_start(trainer)
    checkpoints.on_stop(trainer)
    assert not run.saved  # no step was done
    for trainer.step in (2, 4):
        checkpoints.on_step(trainer, SOUND)
        checkpoints.on_stop(trainer)  # on_epoch has not been called
        checkpoints.on_stop(trainer)
    assert run.saved == [(2, False), (4, True)]


def test_recovery_is_saved_at_once_after_later_checkpoints_are_removed(run, trainer):
    checkpoints = Checkpoints(run)
    trainer.step = 4
    checkpoints.on_start(trainer)
    checkpoints.on_step(trainer, {"loss": tf.constant(np.nan)})
    checkpoints.on_recovery(trainer, ArithmeticError())
    assert run.saved == ["nothing after 4", (4, False)]
