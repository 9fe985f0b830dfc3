import numpy as np
import pytest

from nvae_tf.training.parameters import ParameterStacks
from tests import tiny


@pytest.fixture(scope="module")
def model(make_model):
    return tiny.perturb(make_model())


@pytest.fixture(scope="module")
def parameters(model):
    return ParameterStacks(model)


def test_every_trainable_variable_is_in_one_stack(model, parameters):
    held = [id(variable) for group in parameters.groups for variable in group]
    assert len(held) == len(set(held))
    assert set(held) == {id(variable) for variable in model.trainable_variables}
    # Stacked, or the graph would grow with the depth.
    assert len(parameters.groups) < 0.7 * len(held)


def test_values_are_those_of_the_variables(parameters):
    for group, values in zip(parameters.groups, parameters.read(), strict=True):
        np.testing.assert_array_equal(values, [variable.numpy() for variable in group])


def test_effective_kernels_are_those_of_each_layer(model, parameters):
    stacks = parameters.effective_kernels(parameters.read())
    seen = 0
    for kernels, values in zip(model.kernel_stacks, stacks, strict=True):
        for layer, value in zip(kernels.layers, values, strict=True):
            np.testing.assert_allclose(value, layer.effective_kernel(), rtol=1e-5, atol=1e-6)
            seen += 1
    assert seen == len(model.convolutions)


def test_batch_norm_scales_are_all_and_nothing_else(model, parameters):
    scales = parameters.batch_norm_scales(parameters.read())
    found = sorted(tuple(row) for stack in scales for row in stack.numpy())
    assert found == sorted(tuple(norm.gamma.numpy()) for norm in model.batch_norms)
