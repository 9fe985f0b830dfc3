import dataclasses
import math

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from nvae_tf.evaluation import likelihood
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.models.noise import keyed_noise, row_keys

BATCH, SAMPLES, SEED = 4, 3, 5


@pytest.fixture(scope="module")
def batches(binary_images):
    return [binary_images[:BATCH], binary_images[BATCH:]]


@pytest.fixture(scope="module")
def result(evaluated_model, batches):
    return evaluate(evaluated_model, batches, num_samples=SAMPLES, seed=SEED)


@pytest.fixture(scope="module")
def direct(evaluated_nvae, batches):
    """log p(x|z), log w and KL per channel of each image and sample, from calling the model with the same noise."""
    images, rows = np.concatenate(batches), []
    for sample in range(SAMPLES):
        noise = keyed_noise(evaluated_nvae.noise_shapes(7), row_keys(SEED, tf.range(7), sample))
        output = evaluated_nvae(images, noise=noise)
        log_likelihood = evaluated_nvae.likelihood(output.likelihood_params).log_prob(images)
        log_weight = log_likelihood + output.log_p - output.log_q
        rows.append([value.numpy() for value in (log_likelihood, log_weight, output.kl_per_channel)])
    return [np.stack(part).astype(np.float64) for part in zip(*rows, strict=True)]  # [K, N, ...]


def test_agrees_with_the_direct_computation(result, direct):
    log_likelihood, log_weight, kl = direct
    bounds = -(scipy.special.logsumexp(log_weight, axis=0) - math.log(SAMPLES))
    nelbos = (kl.sum(axis=(2, 3)) - log_likelihood).mean(axis=0)
    assert result.num_images == 7 and result.num_samples == SAMPLES and result.num_outputs == 36
    np.testing.assert_allclose(result.reconstruction, log_likelihood.mean(), rtol=1e-5)
    np.testing.assert_allclose(result.nll_bound, bounds.mean(), rtol=1e-5)
    np.testing.assert_allclose(result.nelbo, nelbos.mean(), rtol=1e-5)
    np.testing.assert_allclose(result.nelbo_standard_error, nelbos.std(ddof=1) / math.sqrt(7), rtol=1e-4)
    expected_error = bounds.std(ddof=1) / math.sqrt(7)
    np.testing.assert_allclose(result.nll_bound_standard_error, expected_error, rtol=1e-4)
    np.testing.assert_allclose(result.kl_per_group, kl.mean(axis=(0, 1)).sum(axis=1), rtol=1e-4)
    assert result.active_units == (kl.mean(axis=(0, 1)) > 0.01).sum(axis=1).tolist()
    assert result.nelbo == pytest.approx(result.kl - result.reconstruction)
    assert result.nelbo_bits_per_dim == pytest.approx(result.nelbo / (36 * math.log(2)))
    assert result.bound_bits_per_dim == pytest.approx(result.nll_bound / (36 * math.log(2)))


def assert_close(result, expected):
    for field in dataclasses.fields(expected):
        actual, wanted = getattr(result, field.name), getattr(expected, field.name)
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, err_msg=field.name)


@pytest.mark.parametrize(("batch_size", "max_rows"), [(7, None), (2, 4), (3, 100), (1, 2), (1, None)])
def test_neither_the_batch_nor_the_samples_at_once_matter(evaluated_model, binary_images, result, batch_size, max_rows):
    batches = [binary_images[i : i + batch_size] for i in range(0, 7, batch_size)]
    assert_close(evaluate(evaluated_model, batches, SAMPLES, SEED, max_rows=max_rows), result)


def test_replicas_do_not_matter(mirrored, batches, result):
    strategy, model = mirrored
    # Three images on two replicas as well: one is padded.
    parts = [batches[0][:3], batches[0][3:], batches[1]]
    assert_close(evaluate(model, parts, SAMPLES, SEED, strategy=strategy), result)


def test_one_trace_serves_all_evaluations_which_report_their_progress(evaluated_model, batches, result):
    before, seen = likelihood._score.experimental_get_tracing_count(), []
    evaluate(evaluated_model, batches, num_samples=2, seed=9, progress=seen.append)
    assert likelihood._score.experimental_get_tracing_count() == before
    assert seen == [4, 7]


def test_refuses_no_images(evaluated_model):
    with pytest.raises(ValueError, match="at least one image"):
        evaluate(evaluated_model, [])
