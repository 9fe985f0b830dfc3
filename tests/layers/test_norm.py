import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.norm import BatchNorm, swish


def _layer(channels, count_factor=1):
    layer = BatchNorm(count_factor)
    layer.build((None, None, None, channels))
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.5, 2.0, variable.shape).astype(np.float32))
    return layer


def _inputs(shape=(3, 4, 2, 5)):
    return (2.0 * np.random.default_rng(0).normal(size=shape) + 1.0).astype(np.float32)


def test_initial_values():
    layer = BatchNorm()
    layer.build((None, 4, 4, 3))
    values = {variable.name: variable.numpy().tolist() for variable in layer.variables}
    assert values == {"gamma": [1] * 3, "beta": [0] * 3, "moving_mean": [0] * 3, "moving_variance": [1] * 3}
    assert [variable.name for variable in layer.trainable_variables] == ["gamma", "beta"]


def test_training_normalises_by_the_biased_batch_variance():
    layer, x = _layer(5), _inputs()
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    expected = expected * np.asarray(layer.gamma) + np.asarray(layer.beta)
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-4, atol=1e-5)


def test_training_moves_the_running_values_by_a_twentieth_with_the_unbiased_variance():
    layer, x = _layer(5), _inputs()
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, 0.95 * mean + 0.05 * x.mean((0, 1, 2)), rtol=1e-5)
    unbiased = x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(layer.moving_variance, 0.95 * variance + 0.05 * unbiased, rtol=1e-5)


def test_count_factor_gives_the_statistics_of_the_upsampled_input():
    x = _inputs((1, 2, 2, 5))
    early, late = _layer(5, count_factor=4), _layer(5)
    outputs = early(x, training=True).numpy()
    upsampled = late(x.repeat(2, axis=1).repeat(2, axis=2), training=True).numpy()
    np.testing.assert_allclose(outputs.repeat(2, axis=1).repeat(2, axis=2), upsampled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(early.moving_mean, late.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(early.moving_variance, late.moving_variance, rtol=1e-5)
    plain = _layer(5)
    plain(x, training=True)
    assert np.abs(plain.moving_variance.numpy() - late.moving_variance.numpy()).max() > 1e-3


def test_inference_uses_the_running_values_and_leaves_them():
    layer, x = _layer(5), _inputs()
    before = [variable.numpy() for variable in layer.variables]
    gamma, beta, mean, variance = before
    expected = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_agree_with_the_formula(training):
    layer, x = _layer(5), tf.constant(_inputs())
    gamma, beta, mean, variance = (tf.constant(variable.numpy()) for variable in layer.variables)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, gamma, beta])
        ours = tf.reduce_sum(tf.sin(layer(x, training=training)))
        if training:
            mean, variance = tf.nn.moments(x, (0, 1, 2))
        composed = tf.reduce_sum(tf.sin((x - mean) * tf.math.rsqrt(variance + 1e-5) * gamma + beta))
    expected = tape.gradient(composed, [x, gamma, beta])
    gradients = tape.gradient(ours, [x, layer.gamma.value, layer.beta.value])
    for gradient, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-4)


def test_swish_and_its_gradient_equal_silu():
    x = tf.constant(np.linspace(-30.0, 30.0, 241, dtype=np.float32))
    upstream = tf.cos(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, silu = swish(x), tf.nn.silu(x)
    np.testing.assert_allclose(ours, silu, rtol=1e-6, atol=1e-7)
    expected = tape.gradient(silu, x, upstream)
    np.testing.assert_allclose(tape.gradient(ours, x, upstream), expected, rtol=1e-5, atol=1e-6)
