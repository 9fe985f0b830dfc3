import math

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import TrainConfig
from nvae_tf.training.schedules import batch_size_factor, learning_rate

# Not a power of two, so that a step over the end of an epoch is not exact by luck.
STEPS = 937
CONFIG = TrainConfig(epochs=20, warmup_epochs=5.0, learning_rate=1e-2, min_learning_rate=1e-4)


def _by_hand(epoch):
    return 1e-4 + 0.5 * (1e-2 - 1e-4) * (1 + math.cos(math.pi * (epoch - 5) / (20 - 5 - 1)))


@pytest.mark.parametrize("step", [0, 1, 468, 937, 4684])
def test_the_warm_up_is_linear_by_step_from_zero(step):
    np.testing.assert_allclose(learning_rate(step, STEPS, CONFIG), 1e-2 * step / (5 * STEPS), rtol=1e-5)


@pytest.mark.parametrize("epoch", [5, 6, 12, 18])
def test_the_cosine_moves_once_an_epoch(epoch):
    rates = [float(learning_rate(epoch * STEPS + offset, STEPS, CONFIG)) for offset in (0, 1, 500, STEPS - 1)]
    np.testing.assert_allclose(rates, _by_hand(epoch), rtol=1e-5)


def test_the_cosine_starts_at_the_peak_and_ends_at_the_least_in_the_last_epoch():
    np.testing.assert_allclose(learning_rate(5 * STEPS, STEPS, CONFIG), 1e-2, rtol=1e-6)
    assert learning_rate(19 * STEPS - 1, STEPS, CONFIG) > 1.5e-4
    np.testing.assert_allclose(learning_rate(19 * STEPS, STEPS, CONFIG), 1e-4, rtol=1e-4)
    np.testing.assert_allclose(learning_rate(20 * STEPS + 7, STEPS, CONFIG), 1e-4, rtol=1e-4)


def test_epochs_begin_at_the_right_step_in_a_graph():
    traced = tf.function(lambda step: learning_rate(step, STEPS, CONFIG), autograph=False)
    for epoch in range(6, 20):
        before, after = (float(traced(tf.constant(epoch * STEPS + i, tf.int64))) for i in (-1, 0))
        np.testing.assert_allclose([before, after], [_by_hand(epoch - 1), _by_hand(epoch)], rtol=1e-4)


@pytest.mark.parametrize("warmup_epochs, step, expected", [(0.0, 0, 1e-2), (0.5, 25, 5e-3), (0.5, 50, 1e-2)])
def test_no_warm_up_and_half_an_epoch_of_it(warmup_epochs, step, expected):
    config = TrainConfig(epochs=4, warmup_epochs=warmup_epochs, learning_rate=1e-2)
    np.testing.assert_allclose(learning_rate(step, 100, config), expected, rtol=1e-5)


def test_a_run_of_nothing_but_warm_up_has_a_finite_rate():
    config = TrainConfig(epochs=2, warmup_epochs=2.0, learning_rate=1e-2)
    rates = [float(learning_rate(step, 10, config)) for step in range(20)]
    np.testing.assert_allclose(rates, 1e-2 * np.arange(20) / 20, rtol=1e-5)


@pytest.mark.parametrize("rule, expected", [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_another_global_batch_size_changes_both_rates_by_the_rule(rule, expected):
    config = TrainConfig(learning_rate_rule=rule, reference_batch_size=32, warmup_epochs=1.0, epochs=10)
    factor = batch_size_factor(config, 128)
    assert factor == expected
    for step in (5, 10, 60, 99):
        plain, scaled = learning_rate(step, 10, config), learning_rate(step, 10, config, factor)
        np.testing.assert_allclose(scaled, expected * plain, rtol=1e-5)
