import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.objectives.kl import balanced_kl, free_bits_kl

# Negative values too: with flows the KL of an image may be below 0.
KL = np.array([[4.0, -1.0, 0.5], [6.0, 3.0, -0.1]], np.float32)
SCALES = [1.0, 2.0, 4.0]


def _coefficients_by_hand(kl, scales):
    means = np.abs(kl).mean(axis=0, dtype=np.float64)
    coefficients = (means + 0.01) / np.array(scales) * means.sum()
    return coefficients / coefficients.mean()


def test_coefficients_of_a_vanished_kl_are_finite():
    _, coefficients = balanced_kl(tf.zeros([2, 3]), 0.5, SCALES)
    np.testing.assert_allclose(coefficients, 0.5 * np.array([4, 2, 1]) * 3 / 7, rtol=1e-5)


def test_balanced_kl_weighs_each_image_by_weight_times_coefficient():
    balanced, coefficients = balanced_kl(tf.constant(KL), 0.25, SCALES)
    expected = 0.25 * _coefficients_by_hand(KL, SCALES)
    np.testing.assert_allclose(coefficients, expected, rtol=1e-5)
    np.testing.assert_allclose(balanced, KL @ expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [1.0, tf.constant(1.0)])
def test_no_balancing_once_the_weight_is_one(weight):
    balanced, coefficients = balanced_kl(tf.constant(KL), weight, SCALES)
    np.testing.assert_array_equal(coefficients, np.ones(3))
    np.testing.assert_allclose(balanced, KL.sum(axis=1), rtol=1e-6)


def test_no_gradient_through_the_coefficients():
    kl = tf.constant(KL)
    with tf.GradientTape() as tape:
        tape.watch(kl)
        balanced, coefficients = balanced_kl(kl, 0.25, SCALES)
        loss = tf.reduce_sum(balanced)
    np.testing.assert_allclose(tape.gradient(loss, kl), np.tile(coefficients, (2, 1)), rtol=1e-6)


# Two images, two groups of three channels; means [[1, -0.5, 0.25], [2, 0.5, 1]].
KL_PER_CHANNEL = np.array([[[1.5, -1.0, 0.5], [3.0, 0.5, 0.0]], [[0.5, 0.0, 0.0], [1.0, 0.5, 2.0]]], np.float32)


def test_free_bits_are_the_least_of_each_channel_and_stop_its_gradient():
    kl = tf.constant(KL_PER_CHANNEL)
    with tf.GradientTape() as tape:
        tape.watch(kl)
        per_group, shares = free_bits_kl(kl, 0.5)
        total = tf.reduce_sum(per_group)
    np.testing.assert_allclose(per_group, [1.0 + 0.5 + 0.5, 2.0 + 0.5 + 1.0])
    np.testing.assert_allclose(shares, [1 / 3, 1.0])
    expected = np.tile(0.5 * np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), (2, 1, 1))
    np.testing.assert_allclose(tape.gradient(total, kl), expected)


def test_free_bits_on_two_replicas_are_those_of_the_whole_batch(two_replicas):
    rows = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(KL_PER_CHANNEL[context.replica_id_in_sync_group][np.newaxis])
    )
    parts = two_replicas.experimental_local_results(two_replicas.run(lambda kl: free_bits_kl(kl, 0.3)[0], [rows]))
    np.testing.assert_allclose(np.mean(parts, axis=0), free_bits_kl(KL_PER_CHANNEL, 0.3)[0], rtol=1e-6)
    # By itself, the first image would have channels above their free bits that are below them on average.
    assert not np.allclose(parts[0], free_bits_kl(KL_PER_CHANNEL[:1], 0.3)[0])
