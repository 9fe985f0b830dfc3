"""What is kept of the features of many images: their pooled moments, and a uniform sample of the features."""

import os
import zipfile

import numpy as np


class FeatureStatistics:
    """Mean and covariance of features, pooled in float64 over batches that are never held together.

    Sums of squared deviations are merged (Chan et al., 1979), not sums of squares: nothing cancels where the mean is
    large against the spread.

    Attributes:
        count: features seen.
        mean: float64 [D], None before the first.
    """

    def __init__(self):
        self.count, self.mean, self._scatter = 0, None, None

    def add(self, features):
        """Adds features [B, D]; raises `ValueError` for another shape and for values that are not finite."""
        features = np.asarray(features, np.float64)
        dim = "D" if self.mean is None else len(self.mean)
        if features.ndim != 2 or dim not in ("D", features.shape[1]):
            raise ValueError(f"features: expected shape [B, {dim}]. Received: {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("features: expected finite numbers. Received: NaN or infinity")
        if len(features):
            mean = features.mean(axis=0)
            centered = features - mean
            self._pool(len(features), mean, centered.T @ centered)

    def merge(self, other):
        """Adds what another `FeatureStatistics` has seen."""
        if other.count:
            self._pool(other.count, other.mean, other._scatter)

    def _pool(self, count, mean, scatter):
        if not self.count:
            self.count, self.mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        total, delta = self.count + count, mean - self.mean
        self._scatter += scatter
        self._scatter += np.outer(delta * (self.count * count / total), delta)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    @property
    def covariance(self):
        """float64 [D, D], divided by `count` - 1; raises `ValueError` for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"features: expected at least 2 for a covariance. Received: {self.count}")
        return self._scatter / (self.count - 1)

    @classmethod
    def from_moments(cls, count, mean, covariance):
        """The statistics of `count` features with these moments."""
        statistics = cls()
        statistics._pool(count, np.asarray(mean, np.float64), np.asarray(covariance, np.float64) * (count - 1))
        return statistics


class FeatureSample:
    """A uniform sample of the features that come by, without replacement (reservoir sampling).

    Not the first ones: data sets may be in the order of their classes. Which are kept depends on the seed and on the
    order alone, not on the batches.

    Args:
        size: most features to keep.
        seed: of the choice.
    """

    def __init__(self, size, seed):
        self._size, self._rng = size, np.random.default_rng(seed)
        self._seen, self._kept = 0, []

    def add(self, features):
        """Offers features [B, D]."""
        for row in np.asarray(features, np.float32):
            self._seen += 1
            if len(self._kept) < self._size:
                self._kept.append(row.copy())
                continue
            place = int(self._rng.integers(self._seen))
            if place < self._size:
                self._kept[place] = row.copy()

    @property
    def array(self):
        """float32 [at most size, D]."""
        return np.stack(self._kept)


def collect(extractor, batches, max_features, seed, progress=None):
    """Passes images through an extractor.

    Args:
        extractor: function from images to features [B, D].
        batches: iterable of its images.
        max_features: how many features are kept, chosen at random.
        seed: of the choice.
        progress: called with the number of images done after each batch, or None. Default None.

    Returns:
        (`FeatureStatistics` of all images, float32 [at most max_features, D]).
    """
    statistics, sample = FeatureStatistics(), FeatureSample(max_features, seed)
    for images in batches:
        features = extractor(images)
        statistics.add(features)
        sample.add(features)
        if progress is not None:
            progress(statistics.count)
    return statistics, sample.array


def _replace(path, arrays):
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _read(path, names):
    """{name: array} of an .npz file; raises `ValueError` for a file that is none or lacks one of the names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = sorted(set(names) - set(getattr(file, "files", ())))
            if missing:
                raise ValueError(f"no {' and no '.join(missing)} in it")
            return {name: file[name] for name in names}
    except (ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        expected = "an .npz file with " + ", ".join(names)
        raise ValueError(f"{path}: expected {expected}. Received: {type(error).__name__}, {error}") from error


def save_moments(path, mean, covariance):
    """Writes `mu` [D] and `sigma` [D, D] as .npz, the form that FID programs exchange, to a temporary name first."""
    _replace(path, {"mu": mean, "sigma": covariance})


def load_moments(path, dim):
    """Reads the moments of a data set's features.

    Args:
        path: .npz file with `mu` and `sigma`.
        dim: D, the features of one image.

    Returns:
        (mean, covariance): float64 [D] and [D, D].

    Raises:
        ValueError: no such file format, other shapes, numbers that are not finite, or `sigma` not symmetric.
        FileNotFoundError: there is no such file.
    """
    arrays = _read(path, ("mu", "sigma"))
    mean, covariance = arrays["mu"], arrays["sigma"]
    shapes = (mean.shape, covariance.shape)
    if shapes != ((dim,), (dim, dim)):
        raise ValueError(
            f"{path}: expected mu [{dim}] and sigma [{dim}, {dim}], as the Inception file gives {dim} features. "
            f"Received: {list(shapes[0])} and {list(shapes[1])}"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"{path}: expected finite numbers in {name}. Received: {array.dtype}, or NaN, or infinity")
    if not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-3 * max(np.abs(covariance).max(), 1e-30)):
        raise ValueError(f"{path}: expected a symmetric sigma. Received: one that is not")
    return mean.astype(np.float64), covariance.astype(np.float64)


def save_features(path, statistics, sample):
    """Writes a `FeatureStatistics` and features [M, D] as .npz, to a temporary name first."""
    moments = {"mu": statistics.mean, "sigma": statistics.covariance}
    _replace(path, {"count": statistics.count, **moments, "features": sample})


def load_features(path):
    """(`FeatureStatistics`, features [M, D]) of a file of `save_features`; raises `ValueError` where it is damaged."""
    arrays = _read(path, ("count", "mu", "sigma", "features"))
    return FeatureStatistics.from_moments(int(arrays["count"]), arrays["mu"], arrays["sigma"]), arrays["features"]
