import numpy as np
import pytest

from nvae_tf.evaluation.fid.features import collect, load_features, load_moments, save_features, save_moments


def _features(num=1000, dim=6):
    # A mean far from 0: sums of squares would lose the digits of the spread.
    rng = np.random.default_rng(0)
    return (rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) + 1e4).astype(np.float32)


def _collected(batches):
    return collect(lambda batch: batch, batches, sum(map(len, batches)), 1000, 0, lambda done: None)


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


def test_the_sample_is_random_and_the_same_in_any_batches():
    features = np.arange(50.0)[:, np.newaxis]

    def kept(seed, size):
        batches = [features[start : start + size] for start in range(0, 50, size)]
        return collect(lambda batch: batch, batches, 50, 10, seed, lambda done: None).sample[:, 0]

    np.testing.assert_array_equal(kept(3, 7), kept(3, 50))
    assert len(set(kept(3, 50))) == 10 and set(kept(3, 50)) != set(kept(4, 50)) != set(range(10))


def test_features_of_all_batches_survive_their_files(tmp_path):
    features, seen = _features(10), []
    collected = collect(lambda batch: batch * 2, [features[:4], features[4:]], 10, 6, 0, seen.append)
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
    ],
)
def test_moments_that_do_not_match_are_refused(tmp_path, arrays, message):
    path = tmp_path / "moments.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_moments(path, 3)
    assert str(error.value).startswith(f"{path}: ")
