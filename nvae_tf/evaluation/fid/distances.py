"""Distances between two sets of images by their features: FID, KID, precision and recall."""

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

# Largest share of a covariance's trace that negative eigenvalues, which come from rounding, may have.
_MAX_NEGATIVE = 1e-3

SUBSET_SIZE = 1000
NUM_SUBSETS = 100
NEIGHBOURS = 3


def _root(name, covariance):
    """[D, D] R with R R^T = covariance."""
    covariance = np.asarray(covariance, np.float64)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    negative, total = -values[values < 0.0].sum(), np.abs(values).sum()
    if negative > _MAX_NEGATIVE * total:
        raise ValueError(
            f"{name}: expected a covariance, without negative eigenvalues. "
            f"Received: some that make up {negative / total:.2g} of the trace"
        )
    return vectors * np.sqrt(np.maximum(values, 0.0))


def frechet_distance(mean, covariance, other_mean, other_covariance):
    """Squared Frechet distance of two normal distributions; for Inception features, the FID (arXiv 1706.08500).

        |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

    The eigenvalues of C1 C2 = R1 R1^T R2 R2^T are those of (R1^T R2)(R1^T R2)^T, so the last trace is the sum of the
    singular values of R1^T R2. This avoids the root of an asymmetric matrix, which fails or becomes complex where a
    covariance is singular, as it is with fewer images than features.

    The means are [D], the covariances [D, D]. Raises `ValueError` if a matrix is not a covariance.
    """
    product = _root("covariance", covariance).T @ _root("other_covariance", other_covariance)
    cross = np.linalg.svd(product, compute_uv=False).sum()
    distance = np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2.0 * cross
    return max(float(distance), 0.0)


def kernel_distance(features, others, seed=0):
    """Kernel Inception distance (arXiv 1801.01401): unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        features: [N, D].
        others: [M, D].
        seed: seed of the subsets, which are drawn without replacement. Default 0.

    Returns:
        (mean, standard deviation) over the subsets. The mean may be below 0.
    """
    rng = np.random.default_rng(seed)
    size = min(SUBSET_SIZE, len(features), len(others))
    estimates = []
    for _ in range(NUM_SUBSETS):
        x = features[rng.choice(len(features), size, replace=False)].astype(np.float64)
        y = others[rng.choice(len(others), size, replace=False)].astype(np.float64)
        within = 0.0
        for kernel in (polynomial_kernel(x), polynomial_kernel(y)):
            within += (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
        estimates.append(within - 2.0 * polynomial_kernel(x, y).mean())
    return float(np.mean(estimates)), float(np.std(estimates, ddof=1))


def _radii(features):
    distances, _ = NearestNeighbors(algorithm="brute").fit(features).kneighbors(features, NEIGHBOURS + 1)
    return distances[:, NEIGHBOURS]  # the nearest is the feature itself


def precision_recall(real, generated):
    """Improved precision and recall (arXiv 1904.06991) of features [N, D] and [M, D].

    The manifold of a set is the union of the balls around its features that reach to their k-th nearest neighbour in
    the set, k = 3. The paper uses features of VGG-16; figures of Inception features compare only with each other.

    Returns:
        (precision, recall): share of the generated features in the real manifold, and of the real ones in the
        generated manifold.
    """
    # Distances are differences of squares, which lose the fewest digits around the mean.
    middle = real.mean(axis=0, dtype=np.float64)
    real, generated = real - middle, generated - middle
    real_radii, generated_radii = _radii(real), _radii(generated)
    inside, covered, start = 0, np.zeros(len(real), bool), 0
    for block in pairwise_distances_chunked(generated, real):  # [b, N] for the next b generated features
        inside += int((block <= real_radii).any(axis=1).sum())
        covered |= (block <= generated_radii[start : start + len(block), np.newaxis]).any(axis=0)
        start += len(block)
    return inside / len(generated), float(covered.mean())


def compare_features(features, data, seed=0):
    """Computes all figures of generated images against a data set, from the `Features` of both.

    Returns:
        dict of `fid`, `kid`, `kid_std`, `precision` and `recall`; all but `fid` are None if `data.sample` is None
        or there are too few images.
    """
    figures = dict.fromkeys(("fid", "kid", "kid_std", "precision", "recall"))
    figures["fid"] = frechet_distance(features.mean, features.covariance, data.mean, data.covariance)
    if data.sample is not None:
        figures["kid"], figures["kid_std"] = kernel_distance(features.sample, data.sample, seed=seed)
        if min(len(features.sample), len(data.sample)) > NEIGHBOURS:
            figures["precision"], figures["recall"] = precision_recall(data.sample, features.sample)
    return figures
