import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite import philox
from nvae_tf.hierarchy import LATENTS, PIXELS
from nvae_tf.models import noise

# Seeds and indices that fill one word, and both.
_ROWS = [(0, 0), (7, 3), (2**63 - 1, 2**36 - 1)]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_random123(counter, key, expected):
    assert philox.philox([counter], key)[0].tolist() == expected


@pytest.mark.parametrize("purpose", [LATENTS, PIXELS])
@pytest.mark.parametrize(("seed", "index"), _ROWS)
def test_keys_are_those_of_the_model(seed, index, purpose):
    expected = noise.row_keys(seed, tf.constant([index], tf.int64), purpose=purpose)
    np.testing.assert_array_equal(philox.row_key(seed, index, purpose), expected.numpy().view(np.uint32)[0])


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_streams_equal_those_of_tensorflow(count):
    key = philox.row_key(2**40 + 5, 3)
    seed = tf.constant(key.view(np.int64))
    expected = tf.random.stateless_uniform([count], seed, 1e-5, 1.0 - 1e-5)
    np.testing.assert_array_equal(philox.uniform(key, [count], 1e-5, 1.0 - 1e-5), expected)
    expected = tf.random.stateless_normal([count], seed, alg="philox")
    np.testing.assert_allclose(philox.standard_normal(key, [count]), expected, rtol=0, atol=1e-6)
    expected = tf.random.split(seed, 2).numpy().view(np.uint32)
    np.testing.assert_array_equal(np.stack(philox.split_key(key)), expected)


@pytest.mark.parametrize(("name", "values"), [("seed", (-1, 0)), ("seed", (2**63, 0)), ("index", (0, 2**36))])
def test_numbers_out_of_range_are_refused(name, values):
    with pytest.raises(ValueError, match=rf"{name}: expected 0 to 2\^\d+ - 1. Received: {max(values, key=abs)}"):
        philox.row_key(*values)
