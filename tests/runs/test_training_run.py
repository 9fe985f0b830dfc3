"""The loop of a training run: when it stops, goes back, and calls its callbacks."""

import time

import pytest
import tensorflow as tf

from nvae_tf.checkpoint import CheckpointError, RunFolder
from nvae_tf.config import Config
from nvae_tf.runs.interruption import Interrupted, Interruption
from nvae_tf.runs.training_run import TrainingRun
from nvae_tf.training.guards import NonFiniteLossError
from tests.runs.conftest import Events


@pytest.fixture
def training(trainer, tmp_path, monkeypatch):
    """`TrainingRun` of the stand-in trainer, without data."""
    monkeypatch.setattr(TrainingRun, "_train_batches", lambda self: iter([("shard",)] * 100))
    parts = RunFolder(tmp_path), Config(), tf.distribute.get_strategy(), None, trainer
    return TrainingRun(*parts, train_images=None, held_out=None, held_out_name="test", interruption=Interruption())


def _error():
    terms = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")
    return NonFiniteLossError(4, dict.fromkeys((*terms, "gradient_norm", "loss_scale", "nonfinite_in_a_row"), 2.0))


def test_callbacks_are_called_after_each_step_each_epoch_and_at_the_end(training, trainer):
    events = Events()
    trainer.step, trainer.last_step = 6, 9
    training.train([events])
    expected = [("on_start", 6), ("on_step", 7), ("on_step", 8), ("on_epoch", 8), ("on_step", 9), ("on_epoch", 9)]
    assert events.seen == [*expected, ("on_stop", 9)] and not training.stopped
    training.train([events])
    assert events.seen[-2:] == [("on_start", 9), ("on_stop", 9)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_run_asked_to_stop_takes_one_step_and_does_nothing_else(training, trainer, num_workers):
    def ask(trainer):
        # Asked to after step 1: all workers learn of it from the next step.
        training.interruption.requested = True

    trainer.num_workers, events = num_workers, Events(on_step=ask)
    training.train([events])
    # The end of the epoch at step 2, with its evaluation, is left to the run that resumes.
    assert events.seen == [("on_start", 0), ("on_step", 1), ("on_step", 2), ("on_stop", 2)]
    assert training.stopped


@pytest.mark.parametrize("num_workers, steps", [(1, 2), (2, 3)])
def test_abandoned_work_between_steps_stops_the_run(training, trainer, num_workers, steps):
    def give_up(trainer):
        training.interruption.requested = True
        training.give_up_if_interrupted()

    trainer.num_workers = num_workers
    first, second = Events(on_epoch=give_up), Events()
    training.train([first, second])
    # Other workers learn of it from one more step.
    assert training.stopped and trainer.step == steps
    assert ("on_epoch", 2) not in second.seen and second.seen[-1] == ("on_stop", steps)
    with pytest.raises(Interrupted):
        training.give_up_if_interrupted()


def test_ruined_run_goes_back_to_a_checkpoint_from_before_the_ruin(training, trainer, monkeypatch):
    asked = []
    monkeypatch.setattr(TrainingRun, "restore", lambda self, before: asked.append(before) or 1)
    trainer.config.max_nonfinite_steps, trainer.may_recover = 2, True
    trainer.errors, trainer.last_step, events = {4: _error()}, 5, Events()
    training.train([events])
    steps = [step for event, step in events.seen if event in ("on_step", "on_recovery")]
    assert steps == [1, 2, 3, 1, 2, 3, 4, 5] and ("on_recovery", 1) in events.seen
    # Steps 3 and 4 were skipped, so step 2 left the weights that ruined them.
    assert asked == [2]


@pytest.mark.parametrize("may_recover", [False, True])
def test_ruined_run_without_a_way_back_raises(training, trainer, monkeypatch, may_recover):
    monkeypatch.setattr(TrainingRun, "restore", lambda self, before: None)
    trainer.may_recover, trainer.errors, events = may_recover, {2: _error()}, Events()
    with pytest.raises(NonFiniteLossError):
        training.train([events])
    assert events.seen == [("on_start", 0), ("on_step", 1)]  # no callback, and so no checkpoint, after the error


def _raise(error):
    raise error


@pytest.mark.parametrize("place", ["batch", "evaluation", "step", "checkpoint"])
def test_run_is_saved_if_an_image_cannot_be_read_any_more(training, trainer, monkeypatch, capsys, place):
    saves = place in ("batch", "evaluation")
    error = (CheckpointError if place == "checkpoint" else ValueError)("x.png: expected an image")
    if place == "batch":
        error = tf.errors.InvalidArgumentError(None, None, "ValueError: x.png: expected an image")
    batches = (("shard",) if place != "batch" or step < 2 else _raise(error) for step in range(9))
    monkeypatch.setattr(TrainingRun, "_train_batches", lambda self: batches)
    trainer.errors = {3: error} if place == "step" else {}
    events = Events(**({"on_epoch": lambda trainer: _raise(error)} if place in ("evaluation", "checkpoint") else {}))
    with pytest.raises(type(error), match="x.png: expected an image"):
        training.train([events])
    assert (events.seen[-1] == ("on_stop", 2)) == saves
    assert ("stopped by an error after step 2; once it is mended" in capsys.readouterr().out) == saves


def test_watchdog_prints_where_a_run_hangs(training, trainer, monkeypatch, capfd):
    def hang(trainer):
        time.sleep(1.0 if trainer.step == 3 else 0.0)

    monkeypatch.setattr(TrainingRun, "callbacks", lambda self, profile: [Events(on_step=hang)])
    training.run()
    assert "Timeout" not in capfd.readouterr().err
    trainer.step, training.watchdog_seconds = 0, 0.3
    training.run()
    text = capfd.readouterr().err
    assert "Timeout" in text and "in hang" in text and "in _take_steps" in text
