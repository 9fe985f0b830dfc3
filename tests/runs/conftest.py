"""Stand-ins for testing the parts of a training run without tracing a step."""

import types

import pytest
import tensorflow as tf

from nvae_tf.checkpoint.figures import MetricsFile
from nvae_tf.config import TrainConfig
from nvae_tf.evaluation.likelihood import LikelihoodResult
from nvae_tf.training.callbacks import Callback

RESULT = LikelihoodResult(100, 1, 256, 81.5, 1.0, 81.5, 1.0, -61.5, 20.0, [16.0, 4.0], [3, 1])


class StandInTrainer:
    """Takes steps that do nothing; `errors` maps a step to what it raises, once."""

    def __init__(self):
        self.step, self.last_step, self.steps_per_epoch = 0, 10, 2
        self.num_replicas = self.num_workers = 1
        self.num_left_out, self.average, self.model = 0, None, None
        self.config = TrainConfig()
        self.may_recover = False
        self.errors = {}

    def advance(self, *shards, stop=False):
        self.step += 1
        if self.step in self.errors:
            raise self.errors.pop(self.step)
        return {"loss": tf.constant(1.0), "stop": tf.constant(float(stop))}

    def recover(self, step):
        self.step = step


@pytest.fixture
def trainer():
    """Stand-in for a `Trainer`: ten steps in five epochs."""
    return StandInTrainer()


@pytest.fixture
def run(trainer, tmp_path):
    """Stand-in for a `TrainingRun` with what its callbacks use; `saved` lists (step, milestone) of its checkpoints."""
    run = types.SimpleNamespace(saved=[], best={}, held_out_name="test")
    run.metrics = MetricsFile(tmp_path / "metrics.jsonl")
    run.save = lambda milestone=False: run.saved.append((trainer.step, milestone))
    run.evaluate = lambda: RESULT
    run.folded = lambda: None
    run.give_up_if_interrupted = lambda: None
    run.folder = types.SimpleNamespace(
        best=lambda: run.best,
        mark_best=lambda step, nelbo: run.best.update(step=step, nelbo=nelbo),
        discard_after=lambda step: run.saved.append(f"nothing after {step}"),
    )
    return run


class Events(Callback):
    """Records its calls; keywords map an event to a function of the trainer that is called then."""

    def __init__(self, **actions):
        self.seen = []
        for event in ("on_start", "on_step", "on_epoch", "on_recovery", "on_stop"):
            setattr(self, event, self._noting(event, actions.get(event, lambda trainer: None)))

    def _noting(self, event, act):
        def note(trainer, *unused):
            self.seen.append((event, trainer.step))
            act(trainer)

        return note
