import numpy as np
import pytest

from nvae_tf.compression.chunk_coder import DifferentArithmeticError
from nvae_tf.compression.networks import to_images
from nvae_tf.evaluation.likelihood import evaluate


def test_every_image_comes_back(coding):
    words, statistics = coding.coder.compress(coding.levels, 100)
    np.testing.assert_array_equal(coding.coder.decompress(words, 24, 100), coding.levels)
    assert statistics.num_images == 24
    assert statistics.stored_bits == 32 * len(words)


def test_the_size_is_that_of_the_nelbo_and_the_start_bits(coding):
    statistics = coding.coder.compress(coding.levels, 0)[1]
    nelbo = evaluate(coding.model, [to_images(coding.levels, coding.model.model_config)])
    bits = 24 * nelbo.nelbo / np.log(2.0)
    coded = statistics.stored_bits - statistics.start_bits
    # The stack ends at a whole word, and holds up to two words at the end.
    assert abs(coded - statistics.ideal_bits) < 64 + 1e-3 * coded
    assert abs(statistics.ideal_bits - bits) < 0.02 * bits
    # 9 bits or fewer for each latent of the largest batch, which has 4 images.
    latents = sum(coding.coder.networks.num_symbols(group) for group in range(coding.coder.networks.num_groups))
    assert 0 < statistics.start_bits < 4 * 9 * latents


def test_other_numbers_are_noticed(coding):
    words, _ = coding.coder.compress(coding.levels[:3], 0)
    bias = coding.model.likelihood_head.bias
    before = bias.numpy()
    bias.assign(before + 1e-3)
    try:
        with pytest.raises(DifferentArithmeticError):
            coding.coder.decompress(words, 3, 0)
    finally:
        bias.assign(before)
    # Channels that are not coded depend on the number of the image.
    with pytest.raises(DifferentArithmeticError):
        coding.coder.decompress(words, 3, 1)


@pytest.mark.parametrize("words", [[], [0], [7, 0], [1], [2**31] * 50], ids=range(5))
def test_words_of_nothing_are_refused(codings, words):
    with pytest.raises(DifferentArithmeticError):
        codings("bernoulli").coder.decompress(np.array(words, np.uint32), 3, 0)


def test_a_model_that_computes_nan_is_refused(codings):
    coding = codings("bernoulli")
    bias = coding.model.likelihood_head.bias
    before = bias.numpy()
    bias.assign(before * np.nan)
    try:
        with pytest.raises(ValueError, match="expected finite probabilities. Received: a model that computes NaN"):
            coding.coder.compress(coding.levels[:1], 0)
    finally:
        bias.assign(before)
