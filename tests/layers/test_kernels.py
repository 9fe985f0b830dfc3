"""Weight norm, and operations on stacks of variables."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import VariableStacks, kernel_stacks, normalize_kernel, shared_kernels
from nvae_tf.layers.masked_conv import MaskedConv2D


def _normal(*shape, seed=0):
    return tf.random.stateless_normal(shape, (seed, 0))


def _plain_normalize(kernel, log_norm):
    norm = tf.sqrt(tf.reduce_sum(tf.square(kernel), axis=(-4, -3, -2)))
    factor = tf.exp(log_norm) / (norm + 1e-5)
    return kernel * factor[..., tf.newaxis, tf.newaxis, tf.newaxis, :]


def _value_and_gradients(function, sources, weights):
    with tf.GradientTape() as tape:
        tape.watch(sources)
        value = function(*sources)
        total = tf.reduce_sum(value * weights)
    return value, *tape.gradient(total, sources)


@pytest.mark.parametrize("stacked", [(), (3,)])
def test_weight_norm_and_its_gradient_follow_the_formula(stacked):
    kernel, log_norm = _normal(*stacked, 3, 3, 2, 4, seed=1), _normal(*stacked, 4, seed=2)
    weights = _normal(*stacked, 3, 3, 2, 4, seed=3)
    ours = _value_and_gradients(normalize_kernel, [kernel, log_norm], weights)
    theirs = _value_and_gradients(_plain_normalize, [kernel, log_norm], weights)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_weight_norm_of_a_zero_kernel_and_its_gradient_are_finite():
    value, *gradients = _value_and_gradients(normalize_kernel, [tf.zeros([3, 3, 2, 4]), tf.zeros([4])], 1.0)
    assert np.all(value.numpy() == 0.0)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def _mixed_layers():
    layers = [Conv2D(4, 3), Conv2D(4, 3), Conv2D(4, 3, use_bias=False, weight_norm=False), Conv2D(6, 3, groups=2)]
    layers += [Conv2D(4, 5, groups="depthwise"), MaskedConv2D(4, 3, strict=True), MaskedConv2D(4, 3, mirrored=True)]
    rng = np.random.default_rng(0)
    for layer in layers:
        layer.build((None, 4, 4, 4))
        for variable in layer.variables:
            variable.assign(rng.normal(size=variable.shape))
    return layers


def test_shared_kernels_give_the_outputs_and_gradients_of_each_layer_by_itself():
    layers, x = _mixed_layers(), _normal(2, 4, 4, 4)
    assert [len(one.layers) for one in kernel_stacks(layers)] == [2, 1, 1, 1, 2]
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]

    def run(make_context):
        # The stacks are computed on entry, so the tape must be opened first.
        with tf.GradientTape() as tape, make_context():
            outputs = [layer(x) for layer in layers]
            loss = tf.add_n([tf.reduce_sum(tf.sin(output)) for output in outputs])
        return outputs + tape.gradient(loss, variables)

    stacks = kernel_stacks(layers)
    together = run(lambda: shared_kernels(stacks, [one.effective() for one in stacks]))
    alone = run(contextlib.nullcontext)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_variable_stacks_replace_values_carry_gradients_and_assign():
    values = [[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0]], [[7.0]]]
    groups = [[keras.Variable(row) for row in rows] for rows in values]
    stacks = VariableStacks(groups)
    assert [rows.numpy().tolist() for rows in stacks.read()] == values
    tenfold = [10.0 * rows for rows in stacks.read()]
    with tf.GradientTape() as tape:
        tape.watch(tenfold)
        with stacks.scope(tenfold):
            total = tf.reduce_sum(groups[0][1].value ** 2) + tf.reduce_sum(groups[1][0].value)
    np.testing.assert_allclose(total, 50.0**2 + 60.0**2 + 70.0)
    gradients = tape.gradient(total, tenfold, unconnected_gradients="zero")
    assert [gradient.numpy().tolist() for gradient in gradients] == [[[0, 0], [100, 120]], [[1, 1]], [[0]]]
    assert [rows.numpy().tolist() for rows in stacks.read()] == values
    stacks.assign(tenfold)
    assert groups[0][1].numpy().tolist() == [50, 60] and groups[2][0].numpy().tolist() == [70]
