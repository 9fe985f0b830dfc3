"""Schedules against values computed by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import TrainConfig
from nvae_tf.training.schedules import batch_size_factor, kl_weight, learning_rate, regularization_weight

# Not a power of two, so that no step at the end of an epoch is exact by luck.
STEPS = 937


@pytest.mark.parametrize(
    "warmup_epochs, step, expected",
    [
        (5.0, 0, 0.0),
        (5.0, 1, 1e-2 / 4685),
        (5.0, 4684, 1e-2 * 4684 / 4685),
        (0.0, 0, 1e-2),
        (0.5, 468, 1e-2 * 468 / 468.5),
    ],
)
def test_warm_up_is_linear_from_zero(warmup_epochs, step, expected):
    config = TrainConfig(epochs=20, warmup_epochs=warmup_epochs, learning_rate=1e-2)
    np.testing.assert_allclose(learning_rate(step, STEPS, config), expected, rtol=1e-5)


def test_cosine_moves_once_an_epoch_from_the_peak_to_the_minimum():
    config = TrainConfig(epochs=20, warmup_epochs=5.0, learning_rate=1e-2, min_learning_rate=1e-4)
    traced = tf.function(lambda step: learning_rate(step, STEPS, config), autograph=False)
    for epoch in range(5, 21):  # the minimum is reached in the last epoch, 19
        rates = [float(traced(tf.constant(epoch * STEPS + offset, tf.int64))) for offset in (0, 1, 500, STEPS - 1)]
        expected = 1e-4 + 0.5 * (1e-2 - 1e-4) * (1 + math.cos(math.pi * min((epoch - 5) / 14, 1)))
        np.testing.assert_allclose(rates, expected, rtol=1e-4)


def test_warm_up_over_the_whole_run_gives_finite_rates():
    config = TrainConfig(epochs=2, warmup_epochs=2.0, learning_rate=1e-2)
    rates = [float(learning_rate(step, 10, config)) for step in range(20)]
    np.testing.assert_allclose(rates, 1e-2 * np.arange(20) / 20, rtol=1e-5)


def test_other_schedules_move_every_step_or_not_at_all():
    fields = {"warmup_epochs": 0.0, "learning_rate": 2e-3, "min_learning_rate": 1e-4}
    constant = TrainConfig(schedule="constant", **fields)
    exponential = TrainConfig(schedule="exponential", learning_rate_decay=0.999999, **fields)
    for step in (0, 1, 1000, 100_000, 3_000_000):
        np.testing.assert_allclose(learning_rate(step, STEPS, constant), 2e-3, rtol=1e-6)
        expected = max(2e-3 * 0.999999**step, 1e-4)
        np.testing.assert_allclose(learning_rate(step, STEPS, exponential), expected, rtol=1e-6)
    warm = TrainConfig(schedule="exponential", warmup_epochs=1.0, learning_rate=2e-3)
    np.testing.assert_allclose(learning_rate(10, STEPS, warm), 2e-3 * 10 / STEPS, rtol=1e-5)


@pytest.mark.parametrize("rule, expected", [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_rule_scales_both_rates_with_the_global_batch(rule, expected):
    config = TrainConfig(learning_rate_rule=rule, reference_batch_size=32, warmup_epochs=1.0, epochs=10)
    factor = batch_size_factor(config, 128)
    assert factor == expected
    for step in (5, 10, 60, 99):
        plain, scaled = learning_rate(step, 10, config), learning_rate(step, 10, config, factor)
        np.testing.assert_allclose(scaled, expected * plain, rtol=1e-5)


def test_kl_weight_waits_grows_and_stays_at_one():
    # Of 10,000 steps, 10 (1e-3) constant and 3,000 (0.3) growing.
    config = TrainConfig(kl_anneal_fraction=0.3, kl_constant_fraction=1e-3)
    expected = {0: 1e-4, 10: 1e-4, 11: 1 / 3000, 1510: 0.5, 3009: 2999 / 3000, 3010: 1, 9e4: 1}
    np.testing.assert_allclose([kl_weight(step, 10_000, config) for step in expected], [*expected.values()], rtol=1e-5)
    np.testing.assert_allclose(kl_weight(tf.constant(1501, tf.int64), 10_000, TrainConfig()), 0.5, rtol=1e-5)
    np.testing.assert_allclose(kl_weight(0, 10_000, TrainConfig(kl_min_weight=0.2)), 0.2, rtol=1e-5)


def test_lambda_falls_geometrically_with_the_kl_weight_or_is_constant():
    config = TrainConfig(regularization=0.01, initial_regularization=1.0)
    for weight, expected in {0.0: 1.0, 0.25: 10**-0.5, 0.5: 0.1, 1.0: 0.01}.items():
        np.testing.assert_allclose(regularization_weight(tf.constant(weight), config), expected, rtol=1e-5)
        np.testing.assert_allclose(regularization_weight(weight, TrainConfig(regularization=0.03)), 0.03, rtol=1e-6)
        off = TrainConfig(regularization=0.0, initial_regularization=1.0)
        assert regularization_weight(weight, off).numpy() == 0
