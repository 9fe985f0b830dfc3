import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.kernels import VariableStacks
from nvae_tf.training.optimizer import StackedAdamax

SHAPES = [[(2, 3), (2, 3)], [(4,)], [(3,), (3,), (3,)]]


class Adamax:
    """One variable's Adamax, by the formulas."""

    def __init__(self, value, decay):
        self.value = value.astype(np.float64)
        self.decay = decay
        self.m = self.u = np.zeros_like(self.value)
        self.t = 0

    def step(self, gradient, rate):
        self.t += 1
        gradient = gradient + self.decay * self.value
        self.m = 0.9 * self.m + 0.1 * gradient
        self.u = np.maximum(0.999 * self.u, np.abs(gradient) + 1e-3)
        self.value = self.value - rate / (1 - 0.9**self.t) * self.m / self.u


@pytest.fixture
def groups():
    rng = np.random.default_rng(0)
    return [[keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in group] for group in SHAPES]


def _gradients(step):
    """Large, small and vanishing gradients in turn: the moments' maximum and the epsilon both come to matter."""
    rng = np.random.default_rng(100 + step)
    size = [3.0, 1e-4, 0.5, 0.0, 1e-2, 1.0][step % 6]
    return [size * rng.normal(size=(len(group), *group[0])).astype(np.float32) for group in SHAPES]


def test_equals_adamax_of_each_variable_alone(groups):
    stacks = VariableStacks(groups)
    optimizer = StackedAdamax(stacks, weight_decay=3e-4)
    expected = [[Adamax(variable.numpy(), 3e-4) for variable in group] for group in groups]
    for step in range(12):
        gradients, rate = _gradients(step), 0.01 * (step + 1)
        optimizer.apply([tf.constant(g) for g in gradients], stacks.read(), rate)
        for group, gradient in zip(expected, gradients, strict=True):
            for one, g in zip(group, gradient, strict=True):
                one.step(g, rate)
    for group, variables, (m, u) in zip(expected, groups, optimizer.moments, strict=True):
        np.testing.assert_allclose(m, [one.m for one in group], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(u, [one.u for one in group], rtol=1e-5)
        for one, variable in zip(group, variables, strict=True):
            np.testing.assert_allclose(variable, one.value, rtol=1e-5, atol=1e-5)
    assert optimizer.updates.numpy() == 12


def test_the_epsilon_is_inside_the_maximum(groups):
    stacks = VariableStacks(groups)
    optimizer = StackedAdamax(stacks, weight_decay=0.0)
    before = [value.numpy() for value in stacks.read()]
    gradients = [tf.fill(value.shape, 1e-3) for value in before]
    optimizer.apply(gradients, stacks.read(), 0.1)
    for old, new, (_, u) in zip(before, stacks.read(), optimizer.moments, strict=True):
        # |g| = epsilon: half the step. A large u forgets the epsilon, which a term beside the maximum would not.
        np.testing.assert_allclose(old - new, 0.05, rtol=1e-4)
        np.testing.assert_allclose(u, 2e-3, rtol=1e-5)
    optimizer.apply([tf.fill(value.shape, 5.0) for value in before], stacks.read(), 0.1)
    optimizer.apply(gradients, stacks.read(), 0.1)
    np.testing.assert_allclose(optimizer.moments[0][1], 0.999 * 5.001, rtol=1e-6)


def test_every_parameter_decays(groups):
    stacks = VariableStacks(groups)
    optimizer = StackedAdamax(stacks, weight_decay=0.5)
    before = [value.numpy() for value in stacks.read()]
    optimizer.apply([tf.zeros_like(value) for value in before], stacks.read(), 1e-2)
    for old, new in zip(before, stacks.read(), strict=True):
        expected = 1e-2 * 0.5 * old / (0.5 * np.abs(old) + 1e-3)
        np.testing.assert_allclose(old - new, expected, rtol=1e-3, atol=1e-7)
        assert (np.abs(new) < np.abs(old)).all()


def test_state_has_names_of_its_own_and_is_not_trained(groups):
    optimizer = StackedAdamax(VariableStacks(groups), name="optimizer")
    names = [variable.name for variable in optimizer.variables]
    assert sorted(names) == ["m_0", "m_1", "m_2", "u_0", "u_1", "u_2", "updates"]
    assert not optimizer.trainable_variables
