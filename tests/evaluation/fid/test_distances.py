import numpy as np
import pytest
import scipy.linalg
import sklearn

from nvae_tf.evaluation.fid.distances import compare_features, frechet_distance, kernel_distance, precision_recall
from nvae_tf.evaluation.fid.features import Features


def _covariance(rng, dim):
    factor = rng.normal(size=(dim, 2 * dim))
    return factor @ factor.T / factor.shape[1]


def _moments(features):
    return features.mean(axis=0), np.cov(features, rowvar=False)


def test_frechet_distance_of_commuting_covariances_is_the_closed_form():
    # The roots commute too: |m1 - m2|^2 + sum (sqrt a - sqrt b)^2 over eigenvalues in one basis.
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    first, second = rng.uniform(0.1, 9, 6), rng.uniform(0.1, 9, 6)
    means = rng.normal(size=(2, 6))
    expected = np.square(means[0] - means[1]).sum() + np.square(np.sqrt(first) - np.sqrt(second)).sum()
    covariances = [basis * values @ basis.T for values in (first, second)]
    result = frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert result == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 40])
def test_frechet_distance_agrees_with_the_matrix_root(dim):
    rng = np.random.default_rng(dim)
    first, second = _covariance(rng, dim), 3 * _covariance(rng, dim)
    means = rng.normal(size=(2, dim))
    root = scipy.linalg.sqrtm(first @ second).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(first + second - 2 * root)
    assert frechet_distance(means[0], first, means[1], second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(means[1], second, means[0], first) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_singular_covariances():
    rng = np.random.default_rng(2)
    # In orthogonal subspaces the product is 0, so nothing is subtracted from the traces.
    first, second = np.zeros((2, 10, 10))
    first[:4, :4], second[4:, 4:] = _covariance(rng, 4), _covariance(rng, 6)
    zero = np.zeros(10)
    assert frechet_distance(zero, first, zero, second) == pytest.approx(np.trace(first + second), rel=1e-7)
    # Fewer images than features, against the root of the product with a small diagonal added.
    few, others = rng.normal(size=(2, 20, 50))
    moments, other = _moments(few), _moments(others)
    small = 1e-9 * np.eye(50)
    root = scipy.linalg.sqrtm((moments[1] + small) @ (other[1] + small)).real
    expected = np.square(moments[0] - other[0]).sum() + np.trace(moments[1] + other[1] - 2 * root)
    assert frechet_distance(*moments, *other) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num", [20, 400])
def test_frechet_distance_of_a_set_to_itself_is_zero(num):
    moments = _moments(np.random.default_rng(3).normal(size=(num, 64)) * np.logspace(-4, 3, 64))
    assert 0.0 <= frechet_distance(*moments, *moments) < 1e-9 * np.trace(moments[1])


def test_frechet_distance_refuses_other_matrices():
    zero, unit = np.zeros(3), np.eye(3)
    with pytest.raises(ValueError, match="other_covariance: expected a covariance, .* some that make up 0.33"):
        frechet_distance(zero, unit, zero, np.diag([1.0, 1.0, -1.0]))


def test_kernel_distance_agrees_with_a_loop():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(7, 5)) + 0.5

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 5 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    expected = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / 42
    expected -= 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / 49
    mean, deviation = kernel_distance(x, y)
    # Subsets as large as the sets are all the same.
    assert mean == pytest.approx(expected, rel=1e-12) and deviation == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("mebibytes", [1e-3, 1024])
def test_precision_and_recall_agree_with_all_distances_in_any_block(mebibytes):
    rng = np.random.default_rng(6)
    real = (rng.normal(size=(60, 4)) + 1000).astype(np.float32)
    generated = (rng.normal(size=(45, 4)) * 1.3 + 1000.5).astype(np.float32)

    def distances(a, b):
        return np.linalg.norm(a[:, np.newaxis].astype(float) - b[np.newaxis], axis=2)

    def inside(features, others):
        radii = np.sort(distances(others, others), axis=1)[:, 3]
        return np.mean((distances(features, others) <= radii).any(axis=1))

    expected = (inside(generated, real), inside(real, generated))
    assert 0.1 < expected[0] < 0.95
    with sklearn.config_context(working_memory=mebibytes):
        assert precision_recall(real, generated) == pytest.approx(expected, rel=1e-12)
        assert precision_recall(real, real) == (1.0, 1.0)


def test_compare_gives_what_the_features_allow():
    generated, real = np.random.default_rng(7).normal(size=(2, 10, 3))
    features, data = (Features(10, *_moments(sample), sample) for sample in (generated, real))
    distance = frechet_distance(*_moments(generated), *_moments(real))
    alone = compare_features(features, data._replace(sample=None))
    assert alone == {"fid": distance, "kid": None, "kid_std": None, "precision": None, "recall": None}
    figures = compare_features(features, data, seed=1)
    assert (figures["kid"], figures["kid_std"]) == kernel_distance(generated, real, seed=1)
    assert (figures["precision"], figures["recall"]) == precision_recall(real, generated)
    few = compare_features(features._replace(sample=generated[:3]), data)  # for a manifold
    assert few["kid"] is not None and few["precision"] is None
