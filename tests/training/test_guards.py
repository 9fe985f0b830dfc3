"""Which steps are skipped, clipped or counted, and how the loss scale moves."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import TrainConfig
from nvae_tf.training.guards import Guards

INF, NAN = float("inf"), float("nan")


def _guards(**fields):
    return Guards(TrainConfig(**fields))


def _step(guards, norm, loss=1.0):
    """Judges one step whose gradient, without the loss scale, has this norm; returns (accept, factor)."""
    scale = float(guards.loss_scale.numpy())
    gradients = [tf.constant([[3.0, 0.0]]) * (scale * norm / 5.0), tf.constant([4.0]) * (scale * norm / 5.0)]
    verdict = guards.judge(tf.constant(loss), gradients)
    report = guards.update(verdict)
    assert report["loss_scale"].numpy() == scale
    if np.isfinite(norm):
        np.testing.assert_allclose(report["gradient_norm"], norm, rtol=1e-5)
    return float(verdict.accept), float(verdict.factor)


def _counts(guards):
    names = ("num_nonfinite", "nonfinite_in_a_row", "num_skipped", "skipped_in_a_row")
    return [int(getattr(guards, name).numpy()) for name in names]


@pytest.mark.parametrize("norm, loss", [(INF, 1.0), (NAN, 1.0), (1.0, INF), (1.0, NAN)])
def test_non_finite_steps_are_skipped_and_counted(norm, loss):
    guards = _guards(clip_norm=1.0)
    assert [_step(guards, norm, loss) for _ in range(2)] == [(0.0, 0.0)] * 2
    assert _counts(guards) == [2, 2, 0, 0]
    _step(guards, 1.0)
    assert _counts(guards) == [2, 0, 0, 0]
    _step(guards, norm, loss)
    assert _counts(guards) == [3, 1, 0, 0]
    assert guards.norm_mean.numpy() == pytest.approx(1.0)  # of the one step that was taken
    guards.restart(0.25)
    assert guards.learning_rate_factor.numpy() == 0.25 and _counts(guards) == [3, 0, 0, 0]


@pytest.mark.parametrize("clip_norm, factor", [(0.0, 1.0), (2.0, 0.25)])
def test_every_finite_step_is_taken_unchanged_or_clipped(clip_norm, factor):
    guards = _guards(clip_norm=clip_norm)
    assert [_step(guards, norm) for norm in (1e-9, 2.0, 8.0)] == [(1.0, 1.0), (1.0, 1.0), (1.0, factor)]
    assert _counts(guards) == [0, 0, 0, 0] and guards.loss_scale.numpy() == 1


def test_steps_above_the_norm_are_skipped_only_a_few_times_in_a_row():
    guards = _guards(skip_norm=2.0, max_skipped_steps=3)
    assert _step(guards, 1.9)[0] == 1
    assert [_step(guards, 5.0)[0] for _ in range(5)] == [0, 0, 0, 1, 0]
    assert _counts(guards) == [0, 0, 4, 1]
    _step(guards, NAN)  # neither resets the count nor adds to it
    assert _counts(guards) == [1, 1, 4, 1]
    assert _step(guards, 1.0)[0] == 1 and _counts(guards) == [1, 0, 4, 0]


def test_skip_factor_compares_with_the_running_mean_of_the_norms():
    guards = _guards(skip_factor=10.0)
    assert _step(guards, 1000.0)[0] == 1  # nothing to compare with
    guards.norm_mean.assign(1.0)
    assert [_step(guards, norm)[0] for norm in (9.0, 11.0, 9.0)] == [1, 0, 1]
    assert guards.norm_mean.numpy() == pytest.approx(0.99 * (0.99 + 0.09) + 0.09)


def test_loss_scale_falls_at_once_and_grows_after_many_finite_steps():
    guards = _guards(precision="mixed_float16")
    assert guards.loss_scale.numpy() == 1024
    assert _step(guards, 3.0) == (1.0, 1 / 1024)
    _step(guards, INF)
    assert guards.loss_scale.numpy() == 512
    guards.finite_steps.assign(1998)
    _step(guards, 1.0)
    assert guards.loss_scale.numpy() == 512
    _step(guards, 1.0)
    assert guards.loss_scale.numpy() == 1024 and guards.finite_steps.numpy() == 0
    guards.finite_steps.assign(1998)
    _step(guards, NAN)
    assert guards.finite_steps.numpy() == 0
    for _ in range(60):
        _step(guards, INF)
    assert guards.loss_scale.numpy() > 0


def test_safe_turns_on_guards_that_are_off():
    safe = TrainConfig(stability="safe", skip_factor=3.0).resolved()
    assert (safe.skip_factor, safe.ema_decay, safe.recovery_learning_rate) == (3.0, 0.999, 0.5)
