"""Noise of rows is independent of their batch."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from nvae_tf.hierarchy import LATENTS, PIXELS, SAMPLE_BITS
from nvae_tf.models.noise import keyed_noise, row_keys, slerp

SHAPES = [(None, 2, 2, 3), (None, 4, 4, 3)]


def draw(keys):
    return np.concatenate([eps.numpy().reshape(len(keys), -1) for eps in keyed_noise(SHAPES, keys)], axis=1)


def test_a_row_is_the_same_bits_in_any_batch():
    whole = draw(row_keys(3, tf.range(64)))
    for start, size in ((0, 1), (5, 7), (63, 1), (10, 50)):
        rows = tf.function(draw_rows)(tf.range(start, start + size))
        np.testing.assert_array_equal(rows, whole[start : start + size])


def draw_rows(indices):
    return tf.concat(
        [tf.reshape(eps, [tf.shape(indices)[0], -1]) for eps in keyed_noise(SHAPES, row_keys(3, indices))], 1
    )


def test_rows_are_independent_standard_normals():
    rows = draw(row_keys(0, tf.range(2000)))
    assert rows.shape == (2000, 60)
    assert scipy.stats.kstest(rows.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(rows.size)


def test_no_two_keys_are_the_same():
    last = 2**SAMPLE_BITS - 1
    cases = [(0, 0, 0, LATENTS), (1, 0, 0, LATENTS), (0, 1, 0, LATENTS), (0, 0, 1, LATENTS), (0, 0, last, LATENTS)]
    cases += [(0, 0, 0, PIXELS), (0, 2**36 - 1, last, LATENTS), (2**62, 0, 0, LATENTS)]
    keys = {tuple(row_keys(seed, tf.constant([index], tf.int64), *rest).numpy()[0]) for seed, index, *rest in cases}
    assert len(keys) == len(cases)


def test_a_seed_for_each_row():
    seeds = tf.constant([5, 6, 5], tf.int64)
    rows = draw(row_keys(seeds, tf.zeros([3], tf.int64)))
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).all()


FRACTIONS = np.linspace(0.0, 1.0, 9)


@pytest.fixture
def ends():
    """Nine equal rows of norm 3, and nine rows of norm 5."""
    rng = np.random.default_rng(0)
    ends = [norm * v / np.linalg.norm(v) for norm, v in zip((3.0, 5.0), rng.normal(size=(2, 4, 4, 2)), strict=True)]
    return [np.repeat(end[np.newaxis].astype(np.float32), 9, axis=0) for end in ends]


def norms(rows):
    return np.linalg.norm(np.reshape(rows, (len(rows), -1)), axis=1)


def test_slerp_turns_and_scales_evenly_between_exact_ends(ends):
    first, second = ends
    rows = slerp(first, second, FRACTIONS).numpy()
    assert rows.shape == (9, 4, 4, 2) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[0], first[0])
    np.testing.assert_array_equal(rows[-1], second[0])
    np.testing.assert_allclose(norms(rows), 3 + 2 * FRACTIONS, rtol=1e-5)
    flat = rows.reshape(9, -1) / norms(rows)[:, np.newaxis]
    steps = np.arccos(np.sum(flat[1:] * flat[:-1], axis=1))
    np.testing.assert_allclose(steps, np.arccos(np.sum(first[0] * second[0]) / 15) / 8, rtol=1e-3)


@pytest.mark.parametrize("change", [0.0, 1e-7, 1e-5])
def test_slerp_of_nearly_parallel_rows_is_straight(ends, change):
    first, second = ends[0], 2.0 * ends[0] + change * ends[1]
    expected = first + FRACTIONS[:, np.newaxis, np.newaxis, np.newaxis] * (second - first)
    np.testing.assert_allclose(slerp(first, second, FRACTIONS), expected, rtol=1e-4, atol=1e-4)


def test_slerp_of_opposite_rows_does_not_pass_through_zero(ends):
    rows = slerp(ends[0], -ends[0], FRACTIONS)
    np.testing.assert_allclose(norms(rows), 3.0, rtol=1e-5)
    np.testing.assert_allclose(np.sum(rows[4] * ends[0][4]), 0.0, atol=1e-4)


@pytest.mark.parametrize("zero", [0, 1])
def test_slerp_gives_a_zero_row_the_direction_of_the_other(ends, zero):
    ends[zero] = np.zeros_like(ends[zero])
    fractions = FRACTIONS[:, np.newaxis, np.newaxis, np.newaxis]
    expected = (1 - fractions) * ends[0] + fractions * ends[1]
    np.testing.assert_allclose(slerp(*ends, FRACTIONS), expected, rtol=1e-4, atol=1e-5)
    assert not np.any(slerp(ends[zero], ends[zero], FRACTIONS))
