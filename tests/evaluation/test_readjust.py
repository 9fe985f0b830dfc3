"""Batch-norm statistics readjusted to samples."""

import numpy as np
import pytest

from nvae_tf.evaluation.readjust import assign_statistics, readjust, statistics_variables
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel


@pytest.fixture(scope="module")
def own(evaluated_nvae):
    return {name: variable.numpy() for name, variable in statistics_variables(evaluated_nvae).items()}


@pytest.fixture(scope="module")
def readjusted(evaluated_nvae, own):
    return readjust(evaluated_nvae, 0.6, num_batches=60, batch_size=8)


def test_the_decoder_follows_and_the_model_keeps_its_own(evaluated_nvae, own, readjusted):
    for name, variable in statistics_variables(evaluated_nvae).items():
        np.testing.assert_array_equal(variable.numpy(), own[name])
    changed = {name for name in own if (readjusted[name] != own[name]).any()}
    decoder = {
        f"{index:04}/{part}"
        for index, layer in enumerate(evaluated_nvae.batch_norms)
        for part in ("moving_mean", "moving_variance")
        if "decoder" in layer.moving_mean.path
    }
    assert changed == decoder and 0 < len(decoder) < len(own)
    assert all(np.isfinite(values).all() for values in readjusted.values())


def test_statistics_are_reproducible_and_depend_on_the_temperature(evaluated_nvae, readjusted):
    again, hotter = (readjust(evaluated_nvae, t, num_batches=60, batch_size=8) for t in (0.6, 1.0))
    for name, values in readjusted.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-4, atol=1e-6)
    assert any((hotter[name] != values).any() for name, values in readjusted.items())


def test_statistics_are_those_of_the_samples(evaluated_nvae, own, readjusted):
    """Training mode normalises a batch by itself; with readjusted statistics, inference comes close to that."""

    def distance(arrays):
        assign_statistics(evaluated_nvae, arrays)
        images = sample_images(InferenceModel(fold(evaluated_nvae)), 64, 0.6, seed=9)
        more = readjust(evaluated_nvae, 0.6, num_batches=60, batch_size=8, seed=1)
        names = [name for name in own if (readjusted[name] != own[name]).any()]
        return images, max(np.abs(more[name] - arrays[name]).max() for name in names)

    try:
        first, before = distance(own)
        second, after = distance(readjusted)
    finally:
        assign_statistics(evaluated_nvae, own)
    assert after < 0.3 * before and (first != second).any()


def test_statistics_that_are_not_finite_leave_the_model_as_it_was(evaluated_nvae, own):
    variable = evaluated_nvae.decoder.start
    value = variable.numpy()
    variable.assign(np.full_like(value, np.inf))
    try:
        with pytest.raises(ValueError, match="batch-norm statistics: expected finite ones. Received: .* not"):
            readjust(evaluated_nvae, 0.6, num_batches=2, batch_size=8)
    finally:
        variable.assign(value)
    for name, variable in statistics_variables(evaluated_nvae).items():
        np.testing.assert_array_equal(variable.numpy(), own[name])
