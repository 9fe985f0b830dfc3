"""Adamax on stacks against the formulas of Adamax, applied to each variable."""

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.kernels import VariableStacks
from nvae_tf.training.optimizer import StackedAdamax

SHAPES = [[(2, 3), (2, 3)], [(4,)], [(3,), (3,), (3,)]]
DECAY = 3e-4


def _gradients(step):
    """Large, small and vanishing gradients in turn, so that both the maximum and the epsilon matter."""
    rng = np.random.default_rng(100 + step)
    size = [3.0, 1e-4, 0.5, 0.0, 1e-2, 1.0][step % 6]
    return [size * rng.normal(size=(len(group), *group[0])).astype(np.float32) for group in SHAPES]


def test_equals_adamax_by_the_formulas():
    rng = np.random.default_rng(0)
    groups = [[keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in group] for group in SHAPES]
    stacks = VariableStacks(groups)
    optimizer = StackedAdamax(stacks, DECAY)
    values = [value.numpy().astype(np.float64) for value in stacks.read()]
    ms, us = ([np.zeros_like(value) for value in values] for _ in range(2))
    for step in range(1, 13):
        gradients, rate = _gradients(step - 1), 0.01 * step
        optimizer.apply([tf.constant(g) for g in gradients], stacks.read(), rate)
        for index, gradient in enumerate(gradients):
            gradient = gradient + DECAY * values[index]
            ms[index] = 0.9 * ms[index] + 0.1 * gradient
            us[index] = np.maximum(0.999 * us[index], np.abs(gradient) + 1e-3)
            values[index] = values[index] - rate / (1 - 0.9**step) * ms[index] / us[index]
    for variables, (m, u), *expected in zip(groups, optimizer.moments, ms, us, values, strict=True):
        np.testing.assert_allclose(m, expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(u, expected[1], rtol=1e-5)
        np.testing.assert_allclose(variables, expected[2], rtol=1e-5, atol=1e-5)
    assert optimizer.updates.numpy() == 12 and not optimizer.trainable_variables
    before = [variable.numpy() for variable in (*optimizer.variables, *sum(groups, []))]
    nonfinite = [tf.constant(np.full(g.shape, np.nan, np.float32)) for g in _gradients(0)]
    optimizer.apply(nonfinite, stacks.read(), 0.1, factor=0.0, accept=0.0)
    for variable, value in zip((*optimizer.variables, *sum(groups, [])), before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)  # a skipped step changes nothing
