"""The digits of scikit-learn: counts, split and interpolation."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from nvae_tf.data.sources.digits import find_digits, read_digits, upsample_bilinear_x2


def test_split_holds_every_digit_once():
    train, test = read_digits("train"), read_digits("test")
    assert train.shape == (1437, 16, 16, 1) and test.shape == (360, 16, 16, 1)
    assert train.dtype == test.dtype == np.uint8
    whole = np.rint(255 / 16 * upsample_bilinear_x2(load_digits().images)).astype(np.uint8)[..., np.newaxis]
    received = sorted(image.tobytes() for image in np.concatenate([train, test]))
    assert received == sorted(image.tobytes() for image in whole)
    # A permutation, not the files' order: neither split is a run of the whole.
    assert not np.array_equal(test, whole[-360:])


def test_split_is_the_same_every_time():
    stores = {split: make() for split, make in find_digits(None, None).items()}
    assert {split: len(store) for split, store in stores.items()} == {"train": 1437, "test": 360}
    for split, store in stores.items():
        np.testing.assert_array_equal(store.as_array(), read_digits(split))
        np.testing.assert_array_equal(store.read(3), read_digits(split)[3])


def test_levels():
    images = read_digits("train")
    # Quarter weights in both directions on 17 levels give the 257 multiples of 1/256.
    assert set(np.unique(images)) <= set(np.rint(255 * np.arange(257) / 256).astype(int))
    assert images.min() == 0 and images.max() == 255


def test_bilinear_agrees_with_tensorflow():
    images = np.random.default_rng(0).uniform(size=(3, 5, 8))
    expected = tf.image.resize(images[..., np.newaxis], (10, 16), method="bilinear")[..., 0]
    np.testing.assert_allclose(upsample_bilinear_x2(images), expected, atol=1e-6)
