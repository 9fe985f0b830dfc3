"""Tests of nvae_tf.baselines.pixel_snail: causality, and draws that follow the logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.baselines.pixel_snail import PixelSnail
from tests import tiny

K, HEIGHT, WIDTH = 6, 4, 6
KINDS = {"attention": {"attention": True, "output_blocks": 1}, "condition": {"condition_channels": 4, "kernel_size": 3}}


@pytest.fixture(scope="module", params=KINDS)
def prior(request):
    """A small prior whose every weight matters, and the codes of the map above or None."""
    keras.utils.set_random_seed(0)
    sizes = {"num_blocks": 2, "num_residuals": 1, "condition_blocks": 1}
    layer = PixelSnail(K, 16, 4, **sizes, **KINDS[request.param])
    layer.build()
    above = _codes(HEIGHT // 2, WIDTH // 2) if request.param == "condition" else None
    return tiny.perturb(layer), above


def _codes(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, K, (3, height, width)).astype(np.int32)


def test_a_code_changes_the_logits_of_later_codes_only(prior):
    layer, above = prior
    codes = _codes(HEIGHT, WIDTH)
    before = layer(codes, above).numpy().reshape(3, -1, K)
    for row, column in ((0, 0), (1, 3), (2, WIDTH - 2)):
        changed, place = codes.copy(), row * WIDTH + column
        changed[:, row, column] = (codes[:, row, column] + 1) % K
        after = layer(changed, above).numpy().reshape(3, -1, K)
        np.testing.assert_array_equal(after[:, : place + 1], before[:, : place + 1])
        assert np.all(np.any(after[:, place + 1] != before[:, place + 1], axis=-1))


def test_every_code_above_changes_the_first_logits_near_it():
    layer = PixelSnail(K, 16, 4, num_blocks=1, num_residuals=1, condition_channels=4)
    layer.build()
    codes, above = _codes(HEIGHT, WIDTH), _codes(HEIGHT // 2, WIDTH // 2)
    changed = above.copy()
    changed[:, 1, 2] = (above[:, 1, 2] + 1) % K
    assert np.all(np.any(layer(codes, above)[:, 2, 4] != layer(codes, changed)[:, 2, 4], axis=-1))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_draws_invert_the_distribution_function_of_the_logits(prior, temperature):
    layer, above = prior
    uniform = np.random.default_rng(1).uniform(size=(3, HEIGHT, WIDTH)).astype(np.float32)
    uniform[0, 0, :2] = 0.0, 1.0
    codes = tf.function(layer.sample)(uniform, above, temperature).numpy()
    # All at once, given the codes that were drawn one after the other.
    cumulative = np.cumsum(tf.nn.softmax(layer(codes, above) / temperature), axis=-1)
    below, up_to = (
        np.take_along_axis(np.pad(cumulative, [(0, 0)] * 3 + [(1, 0)]), codes[..., np.newaxis] + one, axis=-1)[..., 0]
        for one in range(2)
    )
    assert np.all(below <= uniform + 1e-5) and np.all(uniform <= up_to + 1e-5)
    assert codes[0, 0, 0] == 0 and codes[0, 0, 1] == K - 1 and len(np.unique(codes)) > 2


def test_nll_is_the_sum_of_the_cross_entropies(prior):
    layer, above = prior
    codes = _codes(HEIGHT, WIDTH)
    log_probabilities = np.take_along_axis(
        tf.nn.log_softmax(layer(codes, above)).numpy(), codes[..., np.newaxis], axis=-1
    )
    np.testing.assert_allclose(layer.nll(codes, above), -log_probabilities.sum((1, 2, 3)), rtol=1e-5)
