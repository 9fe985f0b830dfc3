"""Tests of nvae_tf.baselines.quantizer against the formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.quantizer import Quantizer
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting

K, D = 5, 3


def _vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, D)).astype(np.float32)


def _quantizer(num_codes=K):
    quantizer = Quantizer(num_codes, name="quantizer")
    quantizer.build((None, None, None, D))
    for variable, seed in zip(quantizer.state, range(3), strict=True):
        variable.assign(1.0 + np.abs(np.random.default_rng(seed).normal(size=variable.shape)))
    return quantizer


def _state(quantizer):
    return [variable.numpy() for variable in quantizer.state]


def test_nearest_codes_commitment_and_straight_through_gradient():
    quantizer, z = _quantizer(), tf.constant(_vectors(2, 4, 4))
    upstream = _vectors(2, 4, 4, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(z)
        vectors, codes, commitment = quantizer(z)
        loss = tf.reduce_sum(vectors * upstream) + tf.reduce_sum(commitment)
    codebook = quantizer.codebook.numpy()
    expected = np.argmin(np.sum((z.numpy()[..., np.newaxis, :] - codebook) ** 2, axis=-1), axis=-1)
    np.testing.assert_array_equal(codes, expected)
    difference = codebook[expected] - z.numpy()
    np.testing.assert_allclose(vectors, codebook[expected], atol=1e-6)
    np.testing.assert_allclose(commitment, np.mean(difference**2, axis=(1, 2, 3)), rtol=1e-5)
    gradient = upstream - 2.0 * difference / (4 * 4 * D)
    np.testing.assert_allclose(tape.gradient(loss, z), gradient, rtol=1e-5, atol=1e-6)


def test_the_lowest_of_equal_codes_is_taken():
    quantizer = _quantizer()
    quantizer.codebook.assign(np.ones((K, D)))
    np.testing.assert_array_equal(quantizer(_vectors(1, 2, 2)).codes, 0)


def test_training_moves_the_codebook_after_it_was_used_and_evaluation_does_not():
    quantizer, z = _quantizer(), _vectors(2, 4, 4)
    codebook, count, total = before = _state(quantizer)
    evaluated = quantizer(z)
    for one, other in zip(before, _state(quantizer), strict=True):
        np.testing.assert_array_equal(one, other)
    trained = quantizer(z, training=True)
    np.testing.assert_array_equal(trained.vectors, evaluated.vectors)
    used = np.eye(K)[trained.codes.numpy().ravel()]
    count = 0.99 * count + 0.01 * used.sum(axis=0)
    total = 0.99 * total + 0.01 * used.T @ z.reshape(-1, D)
    smoothed = (count + 1e-5) / (count.sum() + K * 1e-5) * count.sum()
    for received, expected in zip(_state(quantizer), (total / smoothed[:, np.newaxis], count, total), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5)
    assert np.any(quantizer.codebook.numpy() != codebook)


@pytest.mark.parametrize("num_codes, distinct", [(7, 7), (100, 32)])
def test_the_first_batch_gives_the_codebook(num_codes, distinct):
    quantizer, z = _quantizer(num_codes), _vectors(2, 4, 4)
    with setting(INITIALIZING_FROM_DATA, True):
        result = quantizer(z, training=True)
    codebook, count, total = _state(quantizer)
    rows = {row.tobytes() for row in z.reshape(-1, D)}
    assert {row.tobytes() for row in codebook} <= rows and len(np.unique(codebook, axis=0)) == distinct
    np.testing.assert_array_equal(total, codebook)
    np.testing.assert_array_equal(count, 1.0)
    np.testing.assert_allclose(result.vectors, codebook[result.codes.numpy()], atol=1e-6)


def test_start_and_update_on_two_replicas_are_those_of_one_with_both_batches(two_replicas):
    strategy = two_replicas
    batches = [_vectors(4, 2, 2, seed=seed) for seed in range(2)]
    one = _quantizer()
    with strategy.scope():
        two = _quantizer()

    def share(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group * 2 :][:2])
        )

    def start(quantizer, z):
        with setting(INITIALIZING_FROM_DATA, True):
            quantizer(z, training=True)

    def update(quantizer, z):
        # As in a training step: the values go through a scope, since each replica has computed the same.
        with keras.StatelessScope() as scope:
            quantizer(z, training=True)
        return [scope.get_current_value(variable) for variable in quantizer.state]

    start(one, batches[0])
    tf.function(lambda z: strategy.run(start, args=(two, z)), autograph=False)(share(batches[0]))
    for variable, expected in zip(two.state, _state(one), strict=True):
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy, expected)
    expected = update(one, batches[1])
    received = tf.function(lambda z: strategy.run(update, args=(two, z)), autograph=False)(share(batches[1]))
    for values, like in zip(received, expected, strict=True):
        for copy in strategy.experimental_local_results(values):
            np.testing.assert_allclose(copy, like, rtol=1e-5)


def test_codes_in_use_and_perplexity():
    quantizer = _quantizer()
    quantizer.count.assign([4.0, 4.0, 0.009, 0.0, 0.0])
    used, perplexity = quantizer.codes_in_use()
    share = np.array([4.0, 4.0, 0.009]) / 8.009
    assert used == 2
    np.testing.assert_allclose(perplexity, np.exp(-np.sum(share * np.log(share))), rtol=1e-5)
