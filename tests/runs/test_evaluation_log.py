"""What evaluations and pictures during training write, and when."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.runs import evaluation_log
from nvae_tf.runs.checkpoints import Checkpoints
from nvae_tf.runs.evaluation_log import Evaluation, ImageLog

PERIODS = pytest.mark.parametrize("period, expected", [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])


def _evaluation(run, writer=None):
    return Evaluation(run, writer or tf.summary.create_noop_writer(), Checkpoints(run))


def _epochs(callback, trainer):
    for epoch in range(1, 6):
        trainer.step = 2 * epoch
        callback.on_epoch(trainer, epoch)


@PERIODS
def test_pictures_are_reconstructions_and_samples_at_four_temperatures(
    run, trainer, writer, events, monkeypatch, period, expected
):
    run.held_out_batches = lambda size, limit: [None]
    monkeypatch.setattr(evaluation_log, "reconstruction_grid", lambda *_: np.full((4, 6, 1), 255, np.uint8))
    monkeypatch.setattr(evaluation_log, "sample_images", lambda *arguments: np.full((1, 4, 6, 1), arguments[2]))
    trainer.config.image_epochs = period
    _epochs(ImageLog(run, writer), trainer)
    events = events()
    levels = {"reconstructions": 255} | {f"samples/temperature_{t}": round(255 * t) for t in (0.7, 0.8, 0.9, 1.0)}
    assert set(events) == (set(levels) if expected else set())
    for tag, images in events.items():
        assert list(images) == [2 * epoch for epoch in expected]
        # The grid of one sample is enlarged to at least 512 pixels.
        expected_size = (b"6", b"4") if tag == "reconstructions" else (b"516", b"344")
        for width, height, png in images.values():
            assert (width, height) == expected_size
            np.testing.assert_allclose(tf.io.decode_png(png), levels[tag], atol=1)


@PERIODS
def test_evaluation_is_written_to_tensorboard_the_log_and_the_metrics(
    run, trainer, writer, events, capsys, period, expected
):
    trainer.config.eval_epochs = period
    _epochs(_evaluation(run, writer), trainer)
    events, rows, printed = events(), run.metrics.read(), capsys.readouterr().out
    assert [(row["epoch"], row["step"], row["split"]) for row in rows] == [(e, 2 * e, "test") for e in expected]
    if expected:
        names = ("nelbo", "nelbo_bits_per_dim", "kl", "reconstruction", "active_units", "kl_per_group")
        assert set(events) == {f"test/{name}" for name in names}
        assert rows[0]["kl_per_group"] == [16.0, 4.0] and rows[0]["active_units_per_group"] == [3, 1]
        assert (rows[0]["nelbo"], rows[0]["reconstruction"], rows[0]["active_units"]) == (81.5, 61.5, 4.0)
        # A row of cells for each group and a column for each evaluation so far.
        sizes = [tuple(map(int, value[:2])) for value in events["test/kl_per_group"].values()]
        assert sizes == [(16 * (i + 1), 32) for i in range(len(expected))]
        assert printed.count("test: nelbo 81.5") == len(expected)


def test_run_that_resumes_makes_up_for_a_missing_evaluation(run, trainer):
    def start(step):
        trainer.step = step
        _evaluation(run).on_start(trainer)
        return [row["step"] for row in run.metrics.read()]

    assert start(0) == []
    for trainer.step in (2, 4, 6):
        _evaluation(run).on_epoch(trainer, trainer.step // 2)
    assert start(4) == [2, 4]  # step 6 is still to come
    assert start(5) == [2, 4]  # that of the last whole epoch exists
    assert start(7) == [2, 4, 7]  # that of step 6 was abandoned when the run was stopped
    assert start(7) == [2, 4, 7]
    assert start(8) == [2, 4, 7, 8]
    trainer.step = 4
    _evaluation(run).on_recovery(trainer, ArithmeticError())
    assert [row["step"] for row in run.metrics.read()] == [2, 4]
    trainer.config.eval_epochs = 0
    assert start(10) == [2, 4]


def test_best_by_validation_images_is_saved_and_marked_before_the_line_is_written(run, trainer):
    trainer.step = 2
    _evaluation(run).on_epoch(trainer, 1)
    assert not run.best and not run.saved  # nothing is chosen by the test images
    run.held_out_name = "validation"
    run.best.update(step=1, nelbo=80.0)
    _evaluation(run).on_epoch(trainer, 1)
    assert run.best["step"] == 1 and not run.saved  # no better than the best so far

    def killed(step, nelbo):
        run.best.update(step=step, nelbo=nelbo)
        raise KeyboardInterrupt

    run.best["nelbo"], run.folder.mark_best = 90.0, killed
    before = run.metrics.read()
    with pytest.raises(KeyboardInterrupt):
        _evaluation(run).on_epoch(trainer, 1)
    assert run.best == {"step": 2, "nelbo": 81.5} and run.saved == [(2, False)]
    assert run.metrics.read() == before  # so that the run that resumes evaluates again
