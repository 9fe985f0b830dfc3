import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.training.guards import Guards

INF, NAN = float("inf"), float("nan")


@pytest.fixture
def make_guards(train_config):
    """Function that makes `Guards`; keywords override fields of the config."""
    return lambda **overrides: Guards(train_config(**overrides))


def _step(guards, norm, loss=1.0):
    """One judged step whose gradient, without the loss scale, has this norm; (accept, factor)."""
    scale = float(guards.loss_scale.numpy())
    gradients = [tf.constant([[3.0, 0.0]]) * (scale * norm / 5.0), tf.constant([4.0]) * (scale * norm / 5.0)]
    verdict = guards.judge(tf.constant(loss), gradients)
    guards.update(verdict)
    return float(verdict.accept), float(verdict.factor)


def _counts(guards):
    names = ("num_nonfinite", "nonfinite_in_a_row", "num_skipped", "skipped_in_a_row")
    return [int(getattr(guards, name).numpy()) for name in names]


def test_off_they_take_every_finite_step_as_it_is(make_guards):
    guards = make_guards()
    assert [_step(guards, norm) for norm in (1.0, 1e9, 1e-9)] == [(1.0, 1.0)] * 3
    assert _counts(guards) == [0, 0, 0, 0] and guards.loss_scale.numpy() == 1


@pytest.mark.parametrize("norm, loss", [(INF, 1.0), (NAN, 1.0), (1.0, INF), (1.0, NAN)])
def test_what_is_not_finite_is_left_out_and_counted(make_guards, norm, loss):
    guards = make_guards(clip_norm=1.0)
    assert [_step(guards, norm, loss) for _ in range(2)] == [(0.0, 0.0)] * 2
    assert _counts(guards) == [2, 2, 0, 0]
    _step(guards, 1.0)
    assert _counts(guards) == [2, 0, 0, 0]
    _step(guards, norm, loss)
    assert _counts(guards) == [3, 1, 0, 0]
    # The mean of the norms saw the one step that was taken.
    assert guards.norm_mean.numpy() == pytest.approx(1.0)


def test_clipping_scales_the_gradient_to_the_norm(make_guards):
    guards = make_guards(clip_norm=2.0)
    assert [_step(guards, norm) for norm in (1.0, 2.0, 8.0)] == [(1.0, 1.0), (1.0, 1.0), (1.0, 0.25)]


def test_a_step_above_the_norm_is_skipped_until_patience_ends(make_guards):
    guards = make_guards(skip_norm=2.0, max_skipped_steps=3)
    assert _step(guards, 1.9)[0] == 1
    assert [_step(guards, 5.0)[0] for _ in range(5)] == [0, 0, 0, 1, 0]
    assert _counts(guards) == [0, 0, 4, 1]
    # A step that is not finite neither ends the patience nor uses it up.
    _step(guards, NAN)
    assert _counts(guards) == [1, 1, 4, 1]
    assert _step(guards, 1.0)[0] == 1 and _counts(guards) == [1, 0, 4, 0]


def test_skip_factor_compares_with_the_running_mean_of_the_norms(make_guards):
    guards = make_guards(skip_factor=10.0)
    assert _step(guards, 1000.0)[0] == 1  # nothing to compare with
    guards.norm_mean.assign(1.0)
    assert [_step(guards, norm)[0] for norm in (9.0, 11.0, 9.0)] == [1, 0, 1]
    assert guards.norm_mean.numpy() == pytest.approx(0.99 * (0.99 + 0.09) + 0.09)


def test_safe_turns_on_the_guards_that_are_off(train_config):
    safe = train_config(stability="safe", skip_factor=3.0).resolved()
    assert (safe.skip_factor, safe.ema_decay, safe.recovery_learning_rate) == (3.0, 0.999, 0.5)
    paper = train_config().resolved()
    assert (paper.skip_factor, paper.ema_decay, paper.recovery_learning_rate, paper.clip_norm) == (0, 0, 0, 0)


def test_the_loss_scale_falls_at_once_and_grows_after_many_finite_steps(make_guards):
    guards = make_guards(precision="mixed_float16")
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


def test_after_a_recovery_the_learning_rate_is_smaller_and_the_counts_begin_anew(make_guards):
    guards = make_guards()
    _step(guards, INF)
    guards.restart(0.25)
    assert guards.learning_rate_factor.numpy() == 0.25 and _counts(guards) == [1, 0, 0, 0]


def test_the_report_names_what_people_watch(make_guards):
    guards = make_guards(precision="mixed_float16")
    verdict = guards.judge(tf.constant(1.0), [tf.constant([3.0, 4.0]) * 1024])
    report = {name: np.asarray(value) for name, value in guards.update(verdict).items()}
    assert report["gradient_norm"] == pytest.approx(5.0) and report["loss_scale"] == 1024
    assert {"num_nonfinite", "num_skipped", "nonfinite_in_a_row", "skipped_in_a_row"} <= set(report)
