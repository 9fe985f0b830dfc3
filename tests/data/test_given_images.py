"""Images that a caller passes."""

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.data.given_images import given_images, number_of

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 1)).astype(np.uint8)
DATA = tf.data.Dataset.from_tensor_slices


def _given(images):
    return given_images(images, (12, 10, 1), padding=2)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x[..., 0], tf.constant, DATA, lambda x: DATA((x, x)).batch(2)])
def test_images_are_rounded_and_padded(make, dtype):
    images = IMAGES if dtype == "uint8" else (IMAGES / 255.0).astype(dtype)
    made = make(images)
    given, added = _given(made)
    array = np.stack(list(given)) if isinstance(given, tf.data.Dataset) else given.array
    assert added == 2 and number_of(made, given) == 5 and array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)]))
    assert _given(make(array))[1] == 0


@pytest.mark.parametrize("endless", [lambda x: x.repeat(), lambda x: x.flat_map(lambda y: DATA(y[tf.newaxis]))])
def test_a_data_set_of_unknown_length_has_no_number(endless):
    given = endless(DATA(IMAGES))
    with pytest.raises(ValueError, match="steps_per_epoch: expected a number"):
        number_of(given, _given(given)[0])


@pytest.mark.parametrize(
    "images, message",
    [
        (IMAGES[0, ..., 0], r"expected shape \[N, 12, 10, 1\] or \[N, 8, 6, 1\]. Received: \[N, 6\]"),
        (DATA(IMAGES[:, 1:]), r"Received: \[N, 7, 6, 1\]"),
        (IMAGES.astype(np.float32), r"floating-point numbers in \[0, 1\]. Received: float32 of 0.0 to 255.0"),
        (np.full((1, 8, 6, 1), np.nan), "Received: float64 of nan to nan"),
        (IMAGES.astype(np.int64), "Received: int64"),
        (DATA(IMAGES.astype(np.int64)), "Received: int64"),
        (IMAGES[:0], "N >= 1"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        _given(images)


def test_a_data_set_with_other_numbers_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected uint8, or floating-point numbers in \[0, 1\]"):
        list(_given(DATA(IMAGES / 128.0))[0])
