import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import kernel_stacks
from nvae_tf.layers.masked_conv import MaskedConv2D
from nvae_tf.objectives.regularizers import SpectralRegularizer, batch_norm_regularization

PLAIN = {"use_bias": False, "weight_norm": False}
# Two layers of each kind, so that every stack is deeper than one.
KINDS = {
    "plain": [Conv2D(5, 3, **PLAIN) for _ in range(2)],
    "normalised": [Conv2D(5, 1) for _ in range(2)],
    "masked": [MaskedConv2D(8, 3, strict=True, use_bias=False) for _ in range(2)],
    "depthwise": [Conv2D(4, 5, groups="depthwise", **PLAIN) for _ in range(2)],
    "grouped": [Conv2D(6, 3, groups=2, **PLAIN) for _ in range(2)],
}


@pytest.fixture(scope="module", params=[*KINDS, "all"])
def layers(request):
    chosen = [layer for kind in KINDS.values() for layer in kind] if request.param == "all" else KINDS[request.param]
    rng = np.random.default_rng(3)
    for layer in chosen:
        if not layer.built:
            layer.build((None, 8, 8, 4))
            layer.kernel.assign(rng.normal(size=layer.kernel.shape))
            if layer.weight_norm:
                layer.log_norm.assign(rng.normal(size=layer.filters))
    return chosen


def _matrix(layer):
    """The kernel of one layer as the definition has it: (out, in/groups * kh * kw)."""
    return np.moveaxis(layer.effective_kernel().numpy(), 3, 0).reshape(layer.filters, -1)


def test_converges_to_the_largest_singular_values(layers):
    stacks = kernel_stacks(layers)
    regularizer = SpectralRegularizer(stacks)
    effective = [one.effective() for one in stacks]
    value = regularizer(effective, rounds=200)
    expected = sum(np.linalg.svd(_matrix(layer), compute_uv=False)[0] for layer in layers)
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_the_gradient_is_the_outer_product_of_the_vectors(layers):
    stacks = kernel_stacks(layers)
    regularizer = SpectralRegularizer(stacks)
    effective = [one.effective() for one in stacks]
    with tf.GradientTape() as tape:
        tape.watch(effective)
        # Two rounds have not converged: a gradient through the vectors would show.
        value = regularizer(effective, rounds=2)
    gradients = tape.gradient(value, effective)
    for kernels, gradient, (u, v) in zip(effective, gradients, regularizer.pairs, strict=True):
        # [n, K, 1] * [n, 1, out], K in the order of (kh, kw, in)
        expected = (v.numpy() * np.swapaxes(u.numpy(), 1, 2)).reshape(kernels.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def _slow_case():
    """Kernel [1, 1, 3, 4] with singular values close together, so that each round shows; and its (out, in) matrix."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    right, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = left[:, :3] @ np.diag([1.0, 0.99, 0.97]) @ right
    layer = Conv2D(4, 1, **PLAIN)
    layer.build((None, 2, 2, 3))
    layer.kernel.assign(matrix.T.reshape(1, 1, 3, 4))
    return kernel_stacks([layer]), matrix


def _iterate_by_hand(matrix, u, rounds):
    for _ in range(rounds):
        v = matrix.T @ u
        v /= max(np.linalg.norm(v), 1e-3)
        u = matrix @ v
        u /= max(np.linalg.norm(u), 1e-3)
    return u, v


def test_forty_rounds_the_first_time_then_four_from_where_it_was():
    stacks, matrix = _slow_case()
    regularizer = SpectralRegularizer(stacks, seed=5)
    ((u_variable, v_variable),) = regularizer.pairs
    u = u_variable.numpy().ravel()
    effective = [one.effective() for one in stacks]
    for rounds in (40, 4, 4):
        u, v = _iterate_by_hand(matrix, u / np.linalg.norm(u), rounds)
        value = regularizer(effective)
        np.testing.assert_allclose(u_variable.numpy().ravel(), u, atol=2e-5)
        np.testing.assert_allclose(v_variable.numpy().ravel(), v, atol=2e-5)
        np.testing.assert_allclose(value, u @ matrix @ v, rtol=1e-6)
    # One round more would be noticed.
    assert np.abs(_iterate_by_hand(matrix, u, 1)[0] - u).max() > 1e-4


def test_vectors_and_the_mark_of_the_first_time_are_state():
    stacks, _ = _slow_case()
    one, other = SpectralRegularizer(stacks), SpectralRegularizer(stacks, seed=9)
    effective = [kernels.effective() for kernels in stacks]
    one(effective)
    assert {variable.name for variable in one.variables} == {"u_0", "v_0", "started"}
    assert not one.trainable_variables
    for target, source in zip(other.variables, one.variables, strict=True):
        target.assign(source)
    np.testing.assert_array_equal(other(effective), one(effective))
    np.testing.assert_array_equal(other.pairs[0][0], one.pairs[0][0])


def test_vectors_of_different_kernels_start_apart():
    stacks, _ = _slow_case()
    ((u, v),) = SpectralRegularizer(stacks * 2).pairs[1:]
    ((other, _),) = SpectralRegularizer(stacks).pairs
    assert np.abs(u.numpy() - other.numpy()).max() > 0.1
    assert np.abs(u.numpy()[0, :3] - v.numpy()[0]).max() > 0.1


def test_a_kernel_of_zeros_has_sigma_zero_and_finite_vectors():
    stacks, _ = _slow_case()
    regularizer = SpectralRegularizer(stacks)
    zeros = [tf.zeros_like(stacks[0].effective())]
    value = regularizer(zeros)
    assert np.isfinite(regularizer.pairs[0][0]).all() and value.numpy() == 0


def test_batch_norm_term_sums_the_largest_absolute_scale_of_each_norm():
    scales = [tf.constant([[1.0, -3.0], [0.5, 0.25]]), tf.constant([[2.0, 1.0, 0.0]])]
    with tf.GradientTape() as tape:
        tape.watch(scales)
        value = batch_norm_regularization(scales)
    np.testing.assert_allclose(value, 3.0 + 0.5 + 2.0)
    gradients = tape.gradient(value, scales)
    np.testing.assert_array_equal(gradients[0], [[0, -1], [1, 0]])
    np.testing.assert_array_equal(gradients[1], [[1, 0, 0]])
    assert batch_norm_regularization([]).numpy() == 0  # the cell set res_elu has no batch norms
