"""Training steps of a tiny model: determinism, state, schedules, repeated steps and errors that stop the run."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config
from nvae_tf.training.guards import NonFiniteLossError
from nvae_tf.training.schedules import kl_weight, learning_rate
from nvae_tf.training.trainer import Trainer


def _advance(trainer, batches):
    return [{name: value.numpy() for name, value in trainer.advance(tf.constant(batch)).items()} for batch in batches]


def _assert_same(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def _parts(trainer):
    return {part: model_variables(layer) for part, layer in trainer.state.items()}


def test_model_learns(trainer, digits):
    reports = _advance(trainer, digits)
    nelbo = np.array([report["reconstruction"] + report["kl"] for report in reports])
    reconstruction = np.array([report["reconstruction"] for report in reports])
    assert np.isfinite(nelbo).all()
    # An untrained model needs 256 ln 2 = 177 nats.
    assert abs(reconstruction[0] - 177) < 10
    assert reconstruction[-10:].mean() < 0.75 * reconstruction[0]
    assert nelbo[-10:].mean() < 0.8 * nelbo[0]


def test_seed_determines_the_initial_state(trainer, make_model, train_config, state_of):
    initial = state_of(trainer)
    _assert_same(initial, state_of(Trainer(make_model(), train_config(), 10)))
    other = state_of(Trainer(trainer.model, train_config(seed=1), 10))
    assert any(np.any(initial[name] != other[name]) for name in initial if name[0] == "spectral")


def test_restored_state_gives_the_same_steps_bit_for_bit(trainer, digits, state_of, tmp_path):
    _advance(trainer, digits[:2])
    folder = RunFolder(tmp_path / "run").create(Config())
    folder.save(trainer.step, _parts(trainer))
    expected = _advance(trainer, digits[2:5])
    after = state_of(trainer)
    for layer in trainer.state.values():
        for variable in layer.variables:
            variable.assign(tf.cast(tf.fill(variable.shape, 7), variable.dtype))
    trainer.step = folder.restore(_parts(trainer))
    for one, other in zip(expected, _advance(trainer, digits[2:5]), strict=True):
        _assert_same(one, other)
    _assert_same(after, state_of(trainer))
    names = {part: set(variables) for part, variables in _parts(trainer).items()}
    assert "updates" in names["optimizer"] and {"u_0", "v_0", "started"} <= names["spectral"]
    assert any(name.endswith("moving_variance") for name in names["model"])


def test_one_step_changes_everything_it_should(trainer, digits, state_of):
    before = state_of(trainer)
    _advance(trainer, digits[:2])  # the learning rate of the first step is 0
    after = state_of(trainer)
    for name in before:
        # The guards count events that did not happen here.
        assert name[0] == "guards" or np.any(before[name] != after[name]), name
    assert after["guards", "guards/norm_mean"] > 0 and after["guards", "guards/num_nonfinite"] == 0
    assert after["optimizer", "optimizer/updates"] == 2


def test_schedules_follow_the_step(trainer, train_config, digits):
    reports = _advance(trainer, digits[:3])
    for step, report in enumerate(reports):
        np.testing.assert_allclose(report["learning_rate"], learning_rate(step, 10, trainer.config), rtol=1e-6)
        np.testing.assert_allclose(report["kl_weight"], kl_weight(step, 100, trainer.config), rtol=1e-6)
        np.testing.assert_allclose(report["regularization"], 1e-2, rtol=1e-6)
    assert trainer.step == 3
    short = Trainer(trainer.model, train_config(initial_regularization=1.0, max_steps=7), 10)
    assert (short.last_step, short.total_steps) == (7, 100)  # the schedules remain those of all steps
    assert Trainer(trainer.model, train_config(max_steps=1000), 10).last_step == 100
    schedules = short.schedules(15)
    np.testing.assert_allclose(schedules["regularization"], 0.01 ** float(schedules["kl_weight"]), rtol=1e-5)


def test_loss_that_stays_non_finite_raises_and_suggests_remedies(trainer, digits):
    trainer.config.max_nonfinite_steps, trainer.config.recovery_learning_rate = 2, 0.5
    _advance(trainer, digits[:2])
    kernel = trainer.model.convolutions[0].kernel
    kernel.assign(tf.fill(kernel.shape, np.nan))
    _advance(trainer, digits[2:3])
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.advance(tf.constant(digits[3]))
    message = str(caught.value)
    assert "not finite at step 4, for 2 steps in a row" in message
    assert all(part in message for part in ("loss nan", "spectral", "kl_weight", "smaller train.learning_rate"))
    assert trainer.num_left_out == 2 and trainer.may_recover
    trainer.recover(1)
    assert trainer.step == 1 and not trainer.may_recover  # once only
    guards = trainer.state["guards"]
    assert guards.learning_rate_factor.numpy() == 0.5 and guards.nonfinite_in_a_row.numpy() == 0


def test_data_dependent_initialisation_happens_once_at_step_0(make_model, train_config, digits):
    model = make_model(cell_set="res_elu", num_flows=0)
    trainer = Trainer(model, train_config(), 10)
    # The update is tested elsewhere.
    trainer._function = lambda *_: {"nonfinite_in_a_row": 0}
    conv = next(conv for conv in model.convolutions if conv.data_dependent)
    trainer.step = 5
    before = conv.log_norm.numpy()
    trainer.advance(tf.constant(digits[0]))
    np.testing.assert_array_equal(conv.log_norm, before)
    trainer.step = 0
    trainer.advance(tf.constant(digits[0]))
    initialized = conv.log_norm.numpy()
    assert np.any(initialized != before)
    trainer.advance(tf.constant(digits[1]))
    np.testing.assert_array_equal(conv.log_norm, initialized)


def test_step_with_an_overflowing_gradient_is_repeated_with_a_lower_scale(
    make_model, train_config, digits, state_of, restore_state
):
    trainer = Trainer(make_model(), train_config(precision="mixed_float16"), 10)
    initial, trainer.step = state_of(trainer), 3  # a step with a learning rate
    trainer.advance(tf.constant(digits[0]))
    gentle = state_of(trainer)
    restore_state(trainer, initial)
    trainer.state["guards"].loss_scale.assign(2.0**30)
    trainer.step = 3
    report = trainer.advance(tf.constant(digits[0]))
    assert trainer.step == 4 and report["nonfinite_in_a_row"] == 0
    repeats = int(report["num_nonfinite"])
    assert 0 < repeats < 20 and trainer.state["guards"].loss_scale.numpy() == 2.0 ** (30 - repeats)
    assert trainer.state["optimizer"].updates.numpy() == 1
    ours = state_of(trainer)
    for name, value in gentle.items():
        # The statistics were updated once, as without an overflow.
        if "moving_" in name[1]:
            np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-5, err_msg=str(name))


def test_nothing_is_traced_twice(trainer, digits):
    trainer.trace(tf.constant(digits[0]))
    traces = trainer.num_traces
    _advance(trainer, digits[:3])
    assert trainer.num_traces == traces == 1 and trainer.trace_seconds > 0
