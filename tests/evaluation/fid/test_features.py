import numpy as np
import pytest

from nvae_tf.evaluation.fid.features import (
    Features,
    FeatureSample,
    collect,
    load_features,
    load_moments,
    save_features,
    save_moments,
)


def _features(num=1000, dim=6):
    # A mean far from 0: sums of squares would lose the digits of the spread.
    rng = np.random.default_rng(0)
    return (rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) + 1e4).astype(np.float32)


def _collected(batches):
    return collect(lambda batch: batch, batches, 1000, 0, lambda done: None)


def _assert_moments(statistics, features):
    wide = features.astype(np.float64)
    assert statistics.count == len(features)
    np.testing.assert_allclose(statistics.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(wide, rowvar=False), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_moments_are_those_of_all_features_in_any_batches_and_order(batch_size):
    features = _features()
    for order in (np.arange(1000), np.argsort(features[:, 0]), np.random.default_rng(1).permutation(1000)):
        batches = [features[order[start : start + batch_size]] for start in range(0, 1000, batch_size)]
        _assert_moments(_collected(batches), features)


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="expected finite numbers"):
        _collected([np.zeros((1, 3)), np.array([[0.0, np.nan, 0.0]])])


def test_the_sample_is_uniform_and_the_same_in_any_batches():
    features = np.arange(50.0)[:, np.newaxis]

    def kept(seed, batch_size):
        sample = FeatureSample(10, seed)
        for start in range(0, 50, batch_size):
            sample.add(features[start : start + batch_size])
        return sample.array

    np.testing.assert_array_equal(kept(3, 1), kept(3, 50))
    np.testing.assert_array_equal(kept(3, 7), kept(3, 50))
    draws = np.stack([kept(seed, 50) for seed in range(500)])
    assert draws.shape == (500, 10, 1) and all(len(np.unique(draw)) == 10 for draw in draws)
    # Each is kept with probability 1/5: a count of 500 draws deviates by sqrt(500 * 0.16) = 8.9.
    counts = np.bincount(draws.astype(int).ravel(), minlength=50)
    assert np.abs(counts - 100).max() < 4.5 * 8.95


def test_features_of_all_batches_survive_their_files(tmp_path):
    features, seen = _features(10), []
    collected = collect(lambda batch: batch * 2, [features[:4], features[4:]], 6, 0, seen.append)
    _assert_moments(collected, features * 2)
    assert collected.sample.shape == (6, 6) and seen == [4, 10]
    save_features(tmp_path / "features.npz", collected)
    loaded = load_features(tmp_path / "features.npz")
    for one, other in zip(loaded, collected, strict=True):
        np.testing.assert_array_equal(one, other)
    save_moments(tmp_path / "moments.npz", collected.mean, collected.covariance)
    with np.load(tmp_path / "moments.npz") as file:
        assert sorted(file.files) == ["mu", "sigma"]
    mean, covariance = load_moments(tmp_path / "moments.npz", 6)
    np.testing.assert_array_equal(mean, collected.mean)
    np.testing.assert_array_equal(covariance, collected.covariance)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"mu": np.zeros(3)}, "expected an .npz file with mu, sigma. Received: KeyError, .*sigma"),
        (
            {"mu": np.zeros(2), "sigma": np.eye(2)},
            r"expected mu \[3\] and sigma \[3, 3\].* Received: \[2\] and \[2, 2\]",
        ),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.inf)}, "expected finite numbers in sigma"),
        ({"mu": np.array(["a"] * 3), "sigma": np.eye(3)}, "expected finite numbers in mu"),
        ({"mu": np.array([None] * 3), "sigma": np.eye(3)}, "expected an .npz file with mu, sigma"),
        ({"mu": np.zeros(3), "sigma": np.arange(9.0).reshape(3, 3)}, "expected a symmetric sigma"),
    ],
)
def test_moments_that_do_not_match_are_refused(tmp_path, arrays, message):
    path = tmp_path / "moments.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_moments(path, 3)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("damage", ["html", "truncated", "flipped"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "features.npz"
    save_features(path, Features(1, np.zeros(6), np.eye(6), _features()))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255  # within the features: the checksum of the archive's member no longer matches
    path.write_bytes({"html": b"<html>", "truncated": data[:-50], "flipped": data}[damage])
    with pytest.raises(ValueError, match="features.npz: expected an .npz file with "):
        load_features(path)
