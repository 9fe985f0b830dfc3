"""One training step on stacks against the same step computed layer by layer."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.kernels import normalize_kernel
from nvae_tf.models.nvae import NVAE
from nvae_tf.objectives.kl import balanced_kl
from nvae_tf.training.step import ParameterStacks, TrainingStep
from tests import tiny

KL_WEIGHT, REGULARIZATION = 0.3, 0.1


def _copy(model):
    """Another model with the same values."""
    other = NVAE(model.model_config, name="nvae")
    for target, source in zip(other.variables, model.variables, strict=True):
        target.assign(source)
    return other


def _matrix(layer):
    """(out, in/groups * kh * kw) of the layer's kernel, differentiable, computed for this layer only."""
    kernel = layer.kernel.value if layer.mask is None else layer.kernel.value * layer.mask
    if layer.weight_norm:
        kernel = normalize_kernel(kernel, layer.log_norm.value)
    return tf.reshape(tf.transpose(kernel, (3, 0, 1, 2)), [layer.filters, -1])


def _plain(model, images, noise, vectors):
    """Objective and gradient of each variable, computed layer by layer without stacks.

    `vectors`: {index of the convolution: (u, v)}, v in the order (kh, kw, in).
    """
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        output = model(images, noise=noise, training=True)
        weighted, _ = balanced_kl(output.kl_per_group, KL_WEIGHT, hierarchy.kl_balance_scales(model.model_config))
        loss = tf.reduce_mean(weighted - model.likelihood(output.likelihood_params).log_prob(images))
        spectral = tf.add_n(
            [tf.tensordot(u, tf.linalg.matvec(_matrix(model.convolutions[i]), v), 1) for i, (u, v) in vectors.items()]
        )
        norms = tf.add_n([tf.reduce_max(tf.abs(norm.gamma.value)) for norm in model.batch_norms])
        total = loss + REGULARIZATION * (spectral + norms)
    values = [variable.value for variable in variables]
    gradients = tape.gradient(total, values, unconnected_gradients="zero")
    return total, dict(zip([variable.path for variable in variables], gradients, strict=True))


@pytest.fixture(scope="module")
def both(make_model, train_config, digits):
    """Gradients of a training step, and those computed layer by layer, of equal models on the same batch."""
    model = tiny.perturb(make_model())
    plain_model = _copy(model)
    noise = [np.random.default_rng(1).normal(size=shape).astype(np.float32) for shape in model.noise_shapes(16)]
    step = TrainingStep(model, train_config())
    report, stacks, statistics = step.gradients(tf.constant(digits[0]), noise, KL_WEIGHT, REGULARIZATION)
    for variable, value in statistics:
        variable.assign(value)
    gradients = {
        variable.path: row
        for group, stack in zip(step.parameters.groups, stacks, strict=True)
        for variable, row in zip(group, stack.numpy(), strict=True)
    }
    order = {id(conv): i for i, conv in enumerate(model.convolutions)}
    vectors = {
        order[id(layer)]: (u[row, :, 0], v[row, :, 0])
        for kernels, (u, v) in zip(model.kernel_stacks, step.spectral.pairs, strict=True)
        for row, layer in enumerate(kernels.layers)
    }
    assert len(vectors) == len(model.convolutions)
    total, plain = _plain(plain_model, tf.constant(digits[0]), noise, vectors)
    return {"model": model, "plain_model": plain_model, "report": report, "gradients": gradients} | {
        "total": total,
        "plain": plain,
    }


def test_gradients_equal_those_computed_layer_by_layer(both):
    np.testing.assert_allclose(both["report"]["loss"], both["total"], rtol=1e-5)
    assert set(both["gradients"]) == set(both["plain"])
    largest = max(np.abs(gradient).max() for gradient in both["plain"].values())
    for path, expected in both["plain"].items():
        error = np.abs(both["gradients"][path] - expected).max()
        assert error <= 1e-4 * np.abs(expected).max() + 1e-6 * largest, path
    # Nearly every variable has a gradient that can be compared.
    assert np.mean([np.any(gradient) for gradient in both["gradients"].values()]) > 0.95


def test_batch_norm_statistics_are_updated_once(both):
    assert both["model"].batch_norms
    for norm, plain in zip(both["model"].batch_norms, both["plain_model"].batch_norms, strict=True):
        for name in ("moving_mean", "moving_variance"):
            np.testing.assert_allclose(getattr(norm, name), getattr(plain, name), rtol=1e-4, atol=1e-5, err_msg=name)


def test_report_contains_every_term(both):
    report = both["report"]
    groups = len(report["kl_per_group"])
    assert report["kl_per_channel"].shape == (groups, 2) and report["kl_coefficients"].shape == (groups,)
    np.testing.assert_allclose(report["kl"], np.sum(report["kl_per_group"]), rtol=1e-5)
    np.testing.assert_allclose(np.sum(report["kl_per_channel"], axis=1), report["kl_per_group"], rtol=1e-4, atol=1e-4)
    data_terms = report["reconstruction"] + np.dot(report["kl_coefficients"], report["kl_per_group"])
    total = data_terms + REGULARIZATION * (report["spectral"] + report["batch_norm"])
    np.testing.assert_allclose(report["loss"], total, rtol=1e-5)


def test_model_without_batch_norms_trains(make_model, train_config, digits):
    model = make_model(cell_set="res_elu", num_flows=0)
    assert not model.batch_norms
    step = TrainingStep(model, train_config())
    noise = [np.zeros(shape, np.float32) for shape in model.noise_shapes(16)]
    before = [variable.numpy() for variable in model.trainable_variables]
    report = step.update(tf.constant(digits[0]), noise, KL_WEIGHT, REGULARIZATION, 1e-3)
    assert np.isfinite(report["loss"]) and report["batch_norm"].numpy() == 0
    moved = [np.any(old != new.numpy()) for old, new in zip(before, model.trainable_variables, strict=True)]
    assert all(moved)


def test_stacks_hold_every_trainable_variable_once(both):
    model = both["model"]
    parameters = ParameterStacks(model)
    held = [id(variable) for group in parameters.groups for variable in group]
    assert len(held) == len(set(held)) and set(held) == {id(variable) for variable in model.trainable_variables}
    # Without stacks the graph would grow with the depth.
    assert len(parameters.groups) < 0.7 * len(held)
    scales = parameters.batch_norm_scales(parameters.read())
    found = sorted(tuple(row) for stack in scales for row in stack.numpy())
    assert found == sorted(tuple(norm.gamma.numpy()) for norm in model.batch_norms)
    layers = [layer for stack in model.kernel_stacks for layer in stack.layers]
    effective = [value for rows in parameters.effective_kernels(parameters.read()) for value in rows]
    assert len(layers) == len(model.convolutions)
    for layer, value in zip(layers, effective, strict=True):
        np.testing.assert_allclose(value, layer.effective_kernel(), rtol=1e-5, atol=1e-6)
