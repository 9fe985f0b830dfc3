"""The optimiser on stacks against the formulas, applied to each variable."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.kernels import VariableStacks
from nvae_tf.training.optimizer import StackedOptimizer

SHAPES = [[(2, 3), (2, 3)], [(4,)], [(3,), (3,), (3,)]]
DECAY = 3e-4


def _gradients(step):
    """Large, small and vanishing gradients in turn, so that both the maximum and the epsilon matter."""
    rng = np.random.default_rng(100 + step)
    size = [3.0, 1e-4, 0.5, 0.0, 1e-2, 1.0][step % 6]
    return [size * rng.normal(size=(len(group), *group[0])).astype(np.float32) for group in SHAPES]


def _moments_and_step(rule, epsilon, step, m, u, gradient):
    """m, u and the step for a learning rate of 1, in float64."""
    m = 0.9 * m + 0.1 * gradient
    if rule == "adam":
        u = 0.999 * u + 0.001 * gradient**2
        return m, u, m / (1 - 0.9**step) / (np.sqrt(u / (1 - 0.999**step)) + epsilon)
    if rule == "adamax_uncorrected":
        u = np.maximum(0.999 * u + epsilon, np.abs(gradient))
        return m, u, m / u
    u = np.maximum(0.999 * u, np.abs(gradient) + epsilon)
    return m, u, m / (1 - 0.9**step) / u


@pytest.mark.parametrize(
    "rule, epsilon", [("adamax", 1e-3), ("adamax", 1e-8), ("adamax_uncorrected", 1e-3), ("adam", 1e-3)]
)
def test_equals_the_formulas(rule, epsilon):
    rng = np.random.default_rng(0)
    groups = [[keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in group] for group in SHAPES]
    stacks = VariableStacks(groups)
    optimizer = StackedOptimizer(stacks, rule, epsilon, DECAY)
    values = [value.numpy().astype(np.float64) for value in stacks.read()]
    ms, us = ([np.zeros_like(value) for value in values] for _ in range(2))
    for step in range(1, 13):
        gradients, rate = _gradients(step - 1), 0.01 * step
        optimizer.apply([tf.constant(g) for g in gradients], stacks.read(), rate)
        for index, gradient in enumerate(gradients):
            gradient = gradient + DECAY * values[index]
            ms[index], us[index], change = _moments_and_step(rule, epsilon, step, ms[index], us[index], gradient)
            values[index] = values[index] - rate * change
    for variables, (m, u), *expected in zip(groups, optimizer.moments, ms, us, values, strict=True):
        np.testing.assert_allclose(m, expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(u, expected[1], rtol=1e-4)
        np.testing.assert_allclose(variables, expected[2], rtol=1e-5, atol=1e-5)
    assert optimizer.updates.numpy() == 12 and not optimizer.trainable_variables
    before = [variable.numpy() for variable in (*optimizer.variables, *sum(groups, []))]
    nonfinite = [tf.constant(np.full(g.shape, np.nan, np.float32)) for g in _gradients(0)]
    optimizer.apply(nonfinite, stacks.read(), 0.1, factor=0.0, accept=0.0)
    for variable, value in zip((*optimizer.variables, *sum(groups, [])), before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)  # a skipped step changes nothing


def test_first_step_of_each_rule_by_hand():
    """One weight 0, gradient 2, rate 0.1: m = 0.2, and u as below."""
    expected = {
        "adamax": 0.1 * 2.0 / 2.5,  # u = 2 + epsilon
        "adamax_uncorrected": 0.1 * 0.2 / 2.0,  # u = max(epsilon, 2)
        "adam": 0.1 * 2.0 / (2.0 + 0.5),  # u = 0.004, corrected 4
    }
    for rule, step in expected.items():
        stacks = VariableStacks([[keras.Variable(0.0)]])
        StackedOptimizer(stacks, rule, epsilon=0.5, weight_decay=0.0).apply([tf.constant([2.0])], stacks.read(), 0.1)
        np.testing.assert_allclose(stacks.read()[0], [-step], rtol=1e-5, err_msg=rule)
