import numpy as np
import pytest

from nvae_tf.evaluation.interpolation import interpolate, slerp

FRACTIONS = np.linspace(0.0, 1.0, 9)


def _pair(norms=(3.0, 5.0)):
    rng = np.random.default_rng(0)
    return [norm * v / np.linalg.norm(v) for norm, v in zip(norms, rng.normal(size=(2, 4, 4, 2)), strict=True)]


def _norms(rows):
    return np.linalg.norm(rows.reshape(len(rows), -1), axis=1)


def test_ends_are_exact_and_angle_and_norm_change_evenly():
    first, second = (end.astype(np.float32) for end in _pair())
    rows = slerp(first, second, FRACTIONS)
    assert rows.shape == (9, 4, 4, 2) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[0], first)
    np.testing.assert_array_equal(rows[-1], second)
    np.testing.assert_allclose(_norms(rows), 3 + 2 * FRACTIONS, rtol=1e-5)
    flat = rows.reshape(9, -1) / _norms(rows)[:, np.newaxis]
    steps = np.arccos(np.sum(flat[1:] * flat[:-1], axis=1))
    whole = np.arccos(np.sum(first * second) / 15)
    np.testing.assert_allclose(steps, whole / 8, rtol=1e-3)


@pytest.mark.parametrize("change", [0.0, 1e-9, 1e-7, 1e-5])
def test_nearly_parallel_vectors_go_straight(change):
    first, other = _pair()
    second = 2.0 * first + change * other
    rows = slerp(first, second, FRACTIONS)
    expected = first + FRACTIONS[:, np.newaxis, np.newaxis, np.newaxis] * (second - first)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)


def test_opposite_vectors_go_round_and_not_through_zero():
    first, _ = _pair()
    rows = slerp(first, -first, FRACTIONS)
    np.testing.assert_allclose(_norms(rows), np.full(9, 3.0), rtol=1e-5)
    np.testing.assert_allclose(rows[-1], -first, rtol=1e-6)
    np.testing.assert_allclose(np.sum(rows[4] * first), 0.0, atol=1e-4)


@pytest.mark.parametrize("zero", [0, 1])
def test_the_zero_vector_takes_the_other_s_direction(zero):
    ends = _pair()
    ends[zero] = np.zeros_like(ends[zero])
    rows = slerp(*ends, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(rows[1], 0.75 * ends[0] + 0.25 * ends[1], rtol=1e-5)
    assert not slerp(ends[zero], ends[zero], FRACTIONS).any()


def test_every_group_goes_its_own_way():
    first, second = _pair()
    rows = interpolate([first, 2 * second], [second, first], FRACTIONS)
    np.testing.assert_array_equal(rows[0], slerp(first, second, FRACTIONS))
    np.testing.assert_array_equal(rows[1], slerp(2 * second, first, FRACTIONS))
