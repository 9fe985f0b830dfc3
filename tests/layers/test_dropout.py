"""Tests of nvae_tf.layers.dropout."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.layers.dropout import DROPOUT_SEED, dropout
from nvae_tf.layers.kernels import setting


def _dropped(seed, rate=0.2, index=0, dtype=tf.float32):
    with setting(DROPOUT_SEED, tf.constant(seed, tf.int64)):
        return dropout(tf.ones([100, 500], dtype), rate, index).numpy()


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_values_are_dropped_at_the_rate_and_the_others_keep_the_mean(dtype):
    values = _dropped([1, 2], dtype=dtype).astype(np.float32)
    np.testing.assert_allclose(np.unique(values), [0.0, 1.25])
    assert np.mean(values == 0) == pytest.approx(0.2, abs=0.006)  # 3.4 standard errors


def test_masks_are_functions_of_seed_and_place():
    first = _dropped([1, 2])
    np.testing.assert_array_equal(first, _dropped([1, 2]))
    for other in (_dropped([1, 3]), _dropped([2, 2]), _dropped([1, 2], index=1)):
        assert np.mean(first != other) == pytest.approx(2 * 0.2 * 0.8, abs=0.01)


def test_nothing_is_dropped_outside_of_training_or_at_rate_0():
    x = tf.ones([3])
    assert dropout(x, 0.5, 0) is x
    np.testing.assert_array_equal(_dropped([1, 2], rate=0.0), 1.0)
