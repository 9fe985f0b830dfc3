"""TensorFlow's stateless random numbers with NumPy only: a seed gives the same image with and without TensorFlow.

The generator is Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). A key is four
32-bit words, the two int64 of a TensorFlow seed; tools/web/philox.js is the same in JavaScript.
"""

import math

import numpy as np

from nvae_tf.hierarchy import LATENTS, PURPOSE_BITS, SAMPLE_BITS

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_WORD = 0xFFFFFFFF
# The key with which TensorFlow mixes the words of a seed before it uses them.
_MIXING_KEY = 0x3EC8F720, 0x02461E29


def philox(counters, key):
    """Philox 4x32-10: uint32 [N, 4] from counters, uint32 [N, 4], and a key of two words."""
    c0, c1, c2, c3 = np.asarray(counters, np.uint64).T
    k0, k1 = map(int, key)
    for _ in range(_ROUNDS):
        product0, product1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1 = (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), product1 & np.uint64(_WORD)
        c2, c3 = (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), product0 & np.uint64(_WORD)
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def row_key(seed, index=0, purpose=LATENTS):
    """Key of one image: the words of `nvae_tf.models.noise.row_keys`, uint32 [4], for `LATENTS` or `PIXELS`.

    The seed is below 2^63, and the index, the number of the image among those drawn, below 2^36; else ValueError.
    """
    for name, value, bits in (("seed", seed, 63), ("index", index, PURPOSE_BITS - SAMPLE_BITS)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"{name}: expected 0 to 2^{bits} - 1. Received: {value}")
    counter = (purpose << PURPOSE_BITS) + (index << SAMPLE_BITS)
    return np.array([seed & _WORD, seed >> 32, counter & _WORD, counter >> 32], np.uint32)


def random_words(key, count):
    """The first `count` words of a key's stream, uint32 [count]."""
    mixed = philox(np.reshape(key, (1, 4)), _MIXING_KEY)[0]
    counters = np.zeros([-(-count // 4), 4], np.uint32)
    counters[:, 0] = np.arange(len(counters))
    counters[:, 2:] = mixed[2:]
    return philox(counters, mixed[:2]).ravel()[:count]


def split_key(key):
    """Two keys from one, as `tf.random.split` makes them."""
    words = random_words(key, 8)
    return words[:4], words[4:]


def uniform(key, shape, low=0.0, high=1.0):
    """float32 uniforms from `low` to below `high`, as `tf.random.stateless_uniform` gives them; 23 random bits each."""
    values = _unit_interval(random_words(key, math.prod(shape)))
    low, high = np.float32(low), np.float32(high)
    return (values * (high - low) + low).reshape(shape)


def standard_normal(key, shape):
    """float32 standard normals, as `tf.random.stateless_normal` gives them: Box-Muller on two words for two values."""
    count = math.prod(shape)
    pairs = _unit_interval(random_words(key, count + count % 2)).reshape(-1, 2)
    radius = np.sqrt(np.float32(-2) * np.log(np.maximum(pairs[:, 0], np.float32(1e-7))))
    angle = (2 * np.pi * pairs[:, 1].astype(np.float64)).astype(np.float32)
    values = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1)
    return values.ravel()[:count].reshape(shape)


def _unit_interval(words):
    return (words & np.uint32(0x7FFFFF)).astype(np.float32) * np.float32(2.0**-23)
