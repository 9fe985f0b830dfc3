"""Steps with less memory or precision against the plain step with the same model, batch and noise."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.training.step import TrainingStep
from nvae_tf.training.trainer import Trainer
from tests import tiny

KL_WEIGHT, REGULARIZATION = 0.3, 0.1


@pytest.fixture(scope="module")
def model(make_model):
    return tiny.perturb(make_model())


@pytest.fixture(scope="module")
def noise(model):
    return [np.random.default_rng(1).normal(size=shape).astype(np.float32) for shape in model.noise_shapes(16)]


@pytest.fixture(scope="module")
def gradients_of(model, noise, train_config, digits):
    """Function that returns (report, gradients, new statistics) of a step; keywords override fields of the config."""

    def compute(**overrides):
        step = TrainingStep(model, train_config(**overrides))
        images = tf.constant(digits[0])
        run = tf.function(lambda: step.gradients(images, noise, KL_WEIGHT, REGULARIZATION), autograph=False)
        report, gradients, statistics = run()
        scale = step.guards.loss_scale.numpy()
        return report, [g.numpy() / scale for g in gradients], [value.numpy() for _, value in statistics]

    return compute


@pytest.fixture(scope="module")
def plain(gradients_of):
    return gradients_of()


def _distance(ours, theirs):
    """Norm of the difference of all stacks, relative to their norm."""
    difference = sum(np.sum(np.square(a - b)) for a, b in zip(ours, theirs, strict=True))
    return np.sqrt(difference / sum(np.sum(np.square(b)) for b in theirs))


def test_rematerialisation_gives_the_same_gradients(gradients_of, plain):
    report, gradients, statistics = gradients_of(remat="cells")
    np.testing.assert_allclose(report["loss"], plain[0]["loss"], rtol=1e-6)
    largest = max(np.abs(gradient).max() for gradient in plain[1])
    for ours, theirs in zip(gradients, plain[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * largest)
    # Updated once, although the norms compute twice.
    for ours, theirs in zip(statistics, plain[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision, tolerance", [("mixed_float16", 5e-3), ("mixed_bfloat16", 3e-2)])
def test_half_precision_computes_the_same_step_less_precisely(gradients_of, plain, precision, tolerance):
    report, gradients, statistics = gradients_of(precision=precision)
    assert all(gradient.dtype == np.float32 for gradient in gradients)
    np.testing.assert_allclose(report["loss"], plain[0]["loss"], rtol=1e-3)
    distance = _distance(gradients, plain[1])
    # A distance of 0 would mean float32.
    assert 1e-5 < distance < tolerance
    assert 1e-7 < _distance(statistics, plain[2]) < tolerance
    for name in ("spectral", "batch_norm"):
        np.testing.assert_allclose(report[name], plain[0][name], rtol=1e-6)


def test_micro_batches_average_their_gradients(make_model, train_config, digits, state_of, restore_state):
    trainer = Trainer(tiny.perturb(make_model()), train_config(micro_batches=2, ema_decay=0.9), 10)
    before, trainer.step = state_of(trainer), 3
    images, noise, schedules = tf.constant(digits[0]), trainer._noise(16, 3), trainer.schedules(3)
    losses, parts = [], []
    for part in (slice(0, 8), slice(8, 16)):
        report, gradients, statistics = trainer._training_step.gradients(
            images[part], [eps[part] for eps in noise], schedules["kl_weight"], schedules["regularization"]
        )
        losses.append(report["loss"].numpy())
        parts.append([gradient.numpy() for gradient in gradients])
        for variable, value in statistics:
            variable.assign(value)
    restore_state(trainer, before)
    for variable in trainer._accumulator.variables:
        variable.assign(tf.fill(variable.shape, np.nan))  # as after a non-finite step
    report = trainer.advance(images)
    sums = [variable.numpy() for variable in trainer._accumulator._sums]
    assert _distance(sums, [(a + b) / 2 for a, b in zip(*parts, strict=True)]) < 1e-5
    assert _distance(sums, parts[0]) > 1e-2
    np.testing.assert_allclose(report["loss"], np.mean(losses), rtol=1e-5)
    # The statistics were updated twice, once for each part.
    for variable, value in statistics:
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6, err_msg=variable.path)
    after = state_of(trainer)
    assert after["optimizer", "optimizer/updates"] == 1
    assert np.mean([np.any(before[name] != after[name]) for name in before if name[0] in ("model", "ema")]) > 0.9
