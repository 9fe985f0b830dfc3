"""The moving average of the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import model_variables
from nvae_tf.layers.kernels import VariableStacks
from nvae_tf.training.average import WeightAverage
from nvae_tf.training.step import ParameterStacks
from tests import tiny


@pytest.fixture(scope="module")
def model(make_model):
    return tiny.perturb(make_model())


@pytest.fixture
def average(model):
    return WeightAverage(model, ParameterStacks(model), 0.9, name="ema")


def test_updates_without_warm_up_have_a_constant_decay():
    weight = keras.Variable(1.0)
    stacks = VariableStacks([[weight]])
    average = WeightAverage(keras.Model(), stacks, 0.75, warmup=False, name="ema")
    average.update([tf.constant([5.0])], 0, 1.0)
    assert average.averages[0][0].numpy() == 0.75 * 1.0 + 0.25 * 5.0
    weight.assign(7.0)
    average.restart()
    assert average.averages[0][0].numpy() == 7.0


def test_updates_follow_the_formula_with_a_smaller_decay_at_first(model, average):
    stacks = ParameterStacks(model)
    expected = [value.numpy() for value in stacks.read()]
    for group, value in zip(average.averages, expected, strict=True):
        np.testing.assert_array_equal(group, value)
    for updates in range(100):
        values = [value + updates for value in stacks.read()]
        average.update(values, updates, 1.0)
        decay = min(0.9, (1 + updates) / (10 + updates))
        expected = [decay * old + (1 - decay) * new.numpy() for old, new in zip(expected, values, strict=True)]
    before = [np.array(group) for group in average.averages]
    average.update([value + 1.0 for value in stacks.read()], 50, 0.0)  # a skipped step
    for group, value, unchanged in zip(average.averages, expected, before, strict=True):
        np.testing.assert_allclose(group, value, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(group, unchanged)


def test_model_has_the_averages_only_within_the_context(model, average):
    own = [variable.numpy() for variable in model.variables]
    average.update([value + 1.0 for value in ParameterStacks(model).read()], 0, 1.0)
    averages = {name: variable.numpy() for name, variable in model_variables(average).items()}
    trained = {name: variable for name, variable in model_variables(model).items() if variable.trainable}
    assert set(averages) == set(trained)
    with pytest.raises(RuntimeError), average.applied():
        for name, variable in trained.items():
            np.testing.assert_array_equal(variable, averages[name])
        raise RuntimeError  # an evaluation that fails must not leave the averages behind
    for variable, value in zip(model.variables, own, strict=True):
        np.testing.assert_array_equal(variable, value)
