import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import log_softmax, logsumexp, softmax

from nvae_tf.distributions import LogisticMixtureLikelihood


def num_parameters(channels, mixtures):
    return mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)


def random_parameters(rng, shape, channels, mixtures, log_scale=-2.0):
    """Parameters whose scales lie around exp(log_scale)."""
    parameters = rng.normal(scale=0.7, size=[*shape, num_parameters(channels, mixtures)])
    for start in block_starts(channels):
        parameters[..., (start + 1) * mixtures : (start + 2) * mixtures] += log_scale
    return parameters.astype(np.float32)


def block_starts(channels):
    """Where each channel's block starts, in pieces of one value per component."""
    pairs = channels * (channels - 1) // 2
    sizes = [2 + pairs // channels + (channel < pairs % channels) for channel in range(channels)]
    return np.cumsum([1, *sizes[:-1]])


def reference_log_prob(parameters, images, channels, mixtures, bit_depth):
    """The pmf of each pixel [B, H, W], value by value in float64, with SciPy's logistic."""
    pieces = np.split(parameters.astype(np.float64), num_parameters(channels, mixtures) // mixtures, axis=-1)
    starts = block_starts(channels)
    coefficients = [np.tanh(piece) for i, piece in enumerate(pieces) if i and i not in {*starts, *(starts + 1)}]
    x, half = 2 * images.astype(np.float64) - 1, 1 / (2**bit_depth - 1)
    total = log_softmax(pieces[0], axis=-1)
    for channel, start in enumerate(starts):
        mean = pieces[start].copy()
        for before in range(channel):
            mean += coefficients.pop(0) * x[..., before, np.newaxis]
        logistic = stats.logistic(mean, np.exp(np.maximum(pieces[start + 1], -7)))
        value = x[..., channel, np.newaxis]
        mass = np.where(
            value < mean,
            logistic.cdf(value + half) - logistic.cdf(value - half),
            logistic.sf(value - half) - logistic.sf(value + half),
        )
        inner = np.where(mass > 1e-5, np.log(np.maximum(mass, 1e-10)), logistic.logpdf(value) + np.log(2 * half))
        outer = np.where(value < -0.999, logistic.logcdf(value + half), logistic.logsf(value - half))
        total += np.where((value < -0.999) | (value > 0.99), outer, inner)
    return logsumexp(total, axis=-1)


def levels(bit_depth):
    return (np.arange(2**bit_depth) / (2**bit_depth - 1)).astype(np.float32)


@pytest.mark.parametrize("bit_depth, last_bin", [(5, 0.99), (8, 0.99), (8, 0.999)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pmf_over_the_last_channel_sums_to_one(channels, bit_depth, last_bin):
    mixtures, rng = 4, np.random.default_rng(bit_depth)
    parameters = random_parameters(rng, [1, 1, 1], channels, mixtures)
    images = np.full([2**bit_depth, 1, 1, channels], levels(bit_depth)[2**bit_depth // 2])
    images[:, 0, 0, -1] = levels(bit_depth)
    repeated = np.repeat(parameters, len(images), axis=0)
    pmf = np.exp(LogisticMixtureLikelihood(repeated, channels, mixtures, bit_depth, 0, last_bin).log_prob(images))
    marginal = 1.0
    if channels > 1:
        # With up to three channels, the first parameters are those of a mixture of all channels but the last.
        head = parameters[..., : num_parameters(channels - 1, mixtures)]
        earlier = LogisticMixtureLikelihood(head, channels - 1, mixtures, bit_depth, 0, last_bin)
        marginal = np.exp(earlier.log_prob(images[:1, ..., :-1]))[0]
    # At 8 bits and 0.99 level 254 is given all the mass above it, so that of level 255 is there twice.
    twice = pmf[-1] if (bit_depth, last_bin) == (8, 0.99) else 0.0
    np.testing.assert_allclose((pmf.sum() - twice) / marginal, 1.0, atol=1e-4)


@pytest.mark.parametrize("bit_depth", [1, 5, 8])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_log_prob_agrees_with_scipy(channels, bit_depth):
    rng = np.random.default_rng(channels)
    # Narrow components far from most values: the density's branch; wide ones: the sigmoids'.
    narrow = random_parameters(rng, [1, 8, 8], channels, 3, log_scale=-5.5)
    wide = random_parameters(rng, [1, 8, 8], channels, 3)
    parameters = np.concatenate([narrow, wide])
    images = rng.choice(levels(bit_depth), size=[2, 8, 8, channels])
    images[:, 0], images[:, 1] = 0.0, 1.0
    expected = reference_log_prob(parameters, images, channels, 3, bit_depth).sum((1, 2))
    log_prob = LogisticMixtureLikelihood(parameters, channels, 3, bit_depth).log_prob(images)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


def test_single_values_agree_with_scipy_in_every_branch():
    # [mean, log scale] of one component: inside; both tails, with masses above and below 1e-5; below the least scale;
    # so wide that every inner bin has less than 1e-5.
    cases = np.array([[0.1, -3], [-0.9, -2.5], [0.9, -2.5], [-0.9, -5], [0.9, -5], [0.2, -9], [0.1, 7]], np.float32)
    image = np.tile(levels(8)[:, None, None, None], [1, 1, len(cases), 1])
    parameters = np.concatenate([np.zeros([len(cases), 1]), cases], axis=-1)[None, None].astype(np.float32)
    parameters = np.repeat(parameters, 256, axis=0)
    expected = reference_log_prob(parameters, image, 1, 1, 8)[:, 0]
    actual = [
        LogisticMixtureLikelihood(parameters[:, :, [i]], 1, 1).log_prob(image[:, :, [i]]) for i in range(len(cases))
    ]
    np.testing.assert_allclose(np.transpose(actual), expected, rtol=2e-4, atol=1e-4)


def test_padding_is_left_out():
    rng = np.random.default_rng(0)
    parameters = random_parameters(rng, [2, 6, 8], 3, 2)
    images = rng.choice(levels(8), size=[2, 6, 8, 3])
    cropped = LogisticMixtureLikelihood(parameters, 3, 2, padding=2).log_prob(images)
    inside = LogisticMixtureLikelihood(parameters[:, 2:4, 2:6], 3, 2).log_prob(images[:, 2:4, 2:6])
    np.testing.assert_allclose(cropped, inside, rtol=1e-6)


@pytest.mark.parametrize(("name", "bit_depth"), [("cifar10_tiny_flow", 8), ("celeba64_tiny_5bit", 5)])
def test_agrees_with_golden_numbers(golden, name, bit_depth):
    arrays = np.load(golden / f"{name}.expected.npz")
    images, logits, sample_logits, mean = (
        np.transpose(arrays[key], [0, 2, 3, 1])
        for key in ("x", "eval_logits", "sample_logits_t0.6", "sample_mean_t0.6")
    )
    log_prob = LogisticMixtureLikelihood(logits, 3, 10, bit_depth).log_prob(images)
    np.testing.assert_allclose(-log_prob, arrays["eval_recon_loss"], rtol=1e-5)
    np.testing.assert_allclose(LogisticMixtureLikelihood(sample_logits, 3, 10, bit_depth).mean(), mean, atol=1e-6)


def test_mean_mixes_by_the_weights_and_clips():
    parameters = random_parameters(np.random.default_rng(0), [1, 4, 4], 3, 2)
    logits, *pieces = np.split(parameters, 10, axis=-1)
    weights = softmax(logits, axis=-1)
    red, green, blue = ((weights * pieces[i]).sum(-1) for i in (0, 3, 6))
    c0, c1, c2 = ((weights * np.tanh(pieces[i])).sum(-1) for i in (2, 5, 8))
    red = np.clip(red, -1, 1)
    green = np.clip(green + c0 * red, -1, 1)
    blue = np.clip(blue + c1 * red + c2 * green, -1, 1)
    expected = (np.stack([red, green, blue], axis=-1) + 1) / 2
    np.testing.assert_allclose(LogisticMixtureLikelihood(parameters, 3, 2).mean(), expected, atol=1e-6)


def test_samples_follow_the_pmf():
    num_samples, bit_depth = 20000, 3
    parameters = tf.constant([[[[0.0, 1.0, -0.8, 0.4, -2.0, -1.5]]]])
    likelihood = LogisticMixtureLikelihood(parameters, 1, 2, bit_depth)
    samples = likelihood.sample(num_samples, seed=tf.constant([5, 7], tf.int64)).numpy()
    assert samples.shape == (num_samples, 1, 1, 1, 1) and samples.min() >= 0.0 and samples.max() <= 1.0
    counts = np.bincount(np.round(samples.ravel() * (2**bit_depth - 1)).astype(int), minlength=2**bit_depth)
    pmf = np.exp(likelihood.log_prob(levels(bit_depth).reshape(-1, 1, 1, 1, 1))).ravel()
    tolerance = 5 * np.sqrt(pmf * (1 - pmf) / num_samples)
    assert np.all(np.abs(counts / num_samples - pmf) < tolerance)


def test_narrow_samples_follow_the_chain_of_their_component():
    rng = np.random.default_rng(1)
    parameters = random_parameters(rng, [2, 4, 4], 3, 1, log_scale=-50.0)
    sample = LogisticMixtureLikelihood(parameters, 3, 1).sample(seed=tf.constant([1, 2]))
    # |logistic| < ln 1e5 at the least scale; a channel adds the errors of those before it.
    tolerance = 4 * np.log(1e5) * np.exp(-7) / 2
    np.testing.assert_allclose(sample, LogisticMixtureLikelihood(parameters, 3, 1).mean(), atol=tolerance)


def test_gradients_are_finite_at_extremes():
    rng = np.random.default_rng(0)
    for size in (0.0, 1.0, 100.0, 1e4, 1e8):
        parameters = tf.constant(rng.choice([-size, size, 0.0], size=[4, 16, 16, 30]), tf.float32)
        images = rng.choice(np.array([0, 1, 128, 254, 255], np.float32) / 255, size=[4, 16, 16, 3])
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = LogisticMixtureLikelihood(parameters, 3, 3).log_prob(images)
        assert np.isfinite(log_prob).all()
        assert np.isfinite(tape.gradient(log_prob, parameters)).all()


def test_gradients_agree_with_differences():
    rng = np.random.default_rng(2)
    parameters = random_parameters(rng, [1, 4, 4], 3, 2)
    images = rng.choice(levels(5), size=[1, 4, 4, 3])
    direction = rng.normal(size=parameters.shape)
    tensor = tf.constant(parameters)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        log_prob = LogisticMixtureLikelihood(tensor, 3, 2, 5).log_prob(images)
    above, below = (reference_log_prob(parameters + sign * 1e-5 * direction, images, 3, 2, 5).sum() for sign in (1, -1))
    actual = np.sum(tape.gradient(log_prob, tensor) * direction)
    np.testing.assert_allclose(actual, (above - below) / 2e-5, rtol=1e-3)


def test_unknown_batch_size_and_seeds():
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 20], tf.float16), tf.TensorSpec([2], tf.int64)])
    def run(parameters, seed):
        likelihood = LogisticMixtureLikelihood(parameters, 3, 2)
        assert likelihood.event_shape == [4, 4, 3] and likelihood.batch_shape.as_list() == [None]
        sample = likelihood.sample(seed=seed)
        assert sample.shape.as_list() == [None, 4, 4, 3]
        np.testing.assert_equal(likelihood.sample([2, 3], seed=1).shape.as_list(), [2, 3, None, 4, 4, 3])
        return sample, likelihood.log_prob(sample), likelihood.mean()

    for batch in (1, 3):
        sample, log_prob, mean = run(tf.zeros([batch, 4, 4, 20], tf.float16), tf.constant([1, 2], tf.int64))
        assert sample.shape == mean.shape == (batch, 4, 4, 3) and sample.dtype == tf.float32
        assert log_prob.shape == (batch,) and np.isfinite(log_prob).all()
        again, other = (
            run(tf.zeros([batch, 4, 4, 20], tf.float16), tf.constant([1, last], tf.int64))[0] for last in (2, 3)
        )
        np.testing.assert_array_equal(sample, again)
        assert np.any(sample != other)


def test_wrong_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match=r"last axis of 100 for num_channels=3.*Received: shape \(1, 2, 2, 99\)"):
        LogisticMixtureLikelihood(tf.zeros([1, 2, 2, 99]), 3, 10)


@pytest.mark.parametrize("bit_depth", [5, 8])
def test_level_probabilities_are_those_of_the_log_prob(bit_depth):
    """Their product over the channels is the probability of an image, for whatever number of channels."""
    levels, channels = 2**bit_depth, 3
    rng = np.random.default_rng(0)
    params = tf.constant(rng.normal(size=(4, 6, 6, num_parameters(channels, 2))), tf.float32)
    values = rng.integers(levels, size=(4, 6, 6, channels))
    values[0] = [0, levels - 1, 1]
    images = tf.constant(values / (levels - 1), tf.float32)
    likelihood = LogisticMixtureLikelihood(params, channels, 2, bit_depth, padding=1, last_bin=1.0 - 0.1 / levels)
    total, inner = 0.0, values[:, 1:-1, 1:-1]
    for channel in range(channels):
        probabilities = likelihood.level_probabilities(channel, images).numpy()
        assert probabilities.shape == (4, 4, 4, levels)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)
        total += np.log(np.take_along_axis(probabilities, inner[..., channel, None], axis=-1)).sum(axis=(1, 2, 3))
        # Later channels are not used.
        others = tf.concat([images[..., :channel], 1.0 - images[..., channel:]], axis=-1)
        np.testing.assert_array_equal(likelihood.level_probabilities(channel, others), probabilities)
    np.testing.assert_allclose(total, likelihood.log_prob(images), rtol=1e-4)
