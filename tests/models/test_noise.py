"""Noise of rows that have nothing to do with their batch."""

import numpy as np
import scipy.stats
import tensorflow as tf

from nvae_tf.models.noise import LATENTS, MAX_SAMPLES, PIXELS, keyed_noise, row_keys

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
    last = MAX_SAMPLES - 1
    cases = [(0, 0, 0, LATENTS), (1, 0, 0, LATENTS), (0, 1, 0, LATENTS), (0, 0, 1, LATENTS), (0, 0, last, LATENTS)]
    cases += [(0, 0, 0, PIXELS), (0, 2**36 - 1, last, LATENTS), (2**62, 0, 0, LATENTS)]
    keys = {tuple(row_keys(seed, tf.constant([index], tf.int64), *rest).numpy()[0]) for seed, index, *rest in cases}
    assert len(keys) == len(cases)


def test_a_seed_for_each_row():
    seeds = tf.constant([5, 6, 5], tf.int64)
    rows = draw(row_keys(seeds, tf.zeros([3], tf.int64)))
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).all()
