import types

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint.figures import MetricsFile
from nvae_tf.runs.evaluation_log import Evaluation, ImageLog

RESULTS = {"nelbo": 81.5, "kl": 20.0, "kl_per_group": [16.0, 4.0], "active_units_per_group": [3, 1]}


@pytest.fixture
def trainer(train_config):
    """Stands in for a `Trainer`: the callbacks only read these."""
    return types.SimpleNamespace(step=0, last_step=10, steps_per_epoch=2, config=train_config())


@pytest.fixture
def metrics(tmp_path):
    return MetricsFile(tmp_path / "metrics.jsonl")


def test_images_are_reconstructions_and_samples_at_four_temperatures(trainer, writer, events):
    def grid(value):
        return np.full((4, 6, 1), value, np.uint8)

    log = ImageLog(writer, lambda: grid(255), lambda temperature: grid(int(100 * temperature)))
    trainer.step = 5
    log.on_epoch(trainer, 1)
    events = events()
    temperatures = (0.7, 0.8, 0.9, 1.0)
    assert set(events) == {"reconstructions"} | {f"samples/temperature_{t}" for t in temperatures}
    for tag, value in [("reconstructions", 255), *((f"samples/temperature_{t}", int(100 * t)) for t in temperatures)]:
        width, height, png = events[tag][5]
        assert (width, height) == (b"6", b"4")
        np.testing.assert_array_equal(tf.io.decode_png(png), grid(value))


def test_evaluation_is_written_to_tensorboard_the_log_and_the_metrics(trainer, writer, events, metrics, capsys):
    found = []
    evaluation = Evaluation(writer, metrics, lambda: RESULTS, "test", lambda trainer, nelbo: found.append(nelbo))
    for trainer.step in (2, 4):
        evaluation.on_epoch(trainer, trainer.step // 2)
    events = events()
    assert set(events) == {"test/nelbo", "test/kl", "test/kl_per_group"}
    assert {step: float(value) for step, value in events["test/nelbo"].items()} == {2: 81.5, 4: 81.5}
    # A row for each group and a column for each evaluation so far.
    assert [tuple(map(int, events["test/kl_per_group"][step][:2])) for step in (2, 4)] == [(16, 32), (32, 32)]
    assert "epoch 2, step 4  test: nelbo 81.5  kl 20\n" in capsys.readouterr().out
    assert metrics.read() == [{"step": 2 * epoch, "epoch": epoch, "split": "test", **RESULTS} for epoch in (1, 2)]
    assert found == [81.5, 81.5]


def test_a_run_that_goes_on_makes_up_for_an_evaluation_it_missed(trainer, metrics):
    def start(step):
        trainer.step = step
        Evaluation(tf.summary.create_noop_writer(), metrics, lambda: RESULTS, "test").on_start(trainer)
        return [row["step"] for row in metrics.read()]

    assert start(0) == []
    for step in (2, 4, 6):
        metrics.append({"step": step, "split": "test", **RESULTS})
    assert start(4) == [2, 4]  # step 6 will come again
    assert start(5) == [2, 4]  # that of the last whole epoch is there
    assert start(7) == [2, 4, 7]  # that of step 6 was given up, when a stop came
    assert start(7) == [2, 4, 7]
    assert start(8) == [2, 4, 7, 8]
    trainer.config.eval_epochs = 0
    assert start(10) == [2, 4, 7, 8]


def test_a_recovery_takes_back_the_evaluations_after_it(trainer, metrics):
    for step in (2, 4, 6):
        metrics.append({"step": step, "split": "test", **RESULTS})
    trainer.step = 4
    evaluation = Evaluation(tf.summary.create_noop_writer(), metrics, lambda: RESULTS, "test")
    evaluation.on_recovery(trainer, ArithmeticError())
    assert [row["step"] for row in metrics.read()] == [2, 4]


def test_the_best_is_marked_before_the_line_is_written(trainer, metrics):
    def killed(trainer, nelbo):
        raise KeyboardInterrupt

    trainer.step = 2
    with pytest.raises(KeyboardInterrupt):
        Evaluation(tf.summary.create_noop_writer(), metrics, lambda: RESULTS, "test", killed).on_epoch(trainer, 1)
    assert not metrics.read()  # so that the run that goes on evaluates again


@pytest.mark.parametrize("period, expected", [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
@pytest.mark.parametrize("kind", ["images", "evaluation"])
def test_periods_count_epochs_and_the_end_always_counts(trainer, metrics, kind, period, expected):
    done = []

    def grid(*_):
        done.append(trainer.step // 2)
        return np.zeros((2, 2, 1), np.uint8)

    trainer.config.image_epochs = trainer.config.eval_epochs = period
    writer = tf.summary.create_noop_writer()
    callback = {
        "images": lambda: ImageLog(writer, grid, lambda _: np.zeros((2, 2, 1), np.uint8)),
        "evaluation": lambda: Evaluation(writer, metrics, lambda: {**RESULTS, "sum": float(grid().sum())}, "test"),
    }[kind]()
    for epoch in range(1, 6):
        trainer.step = 2 * epoch
        callback.on_epoch(trainer, epoch)
    assert done == expected
