"""Summaries of the features of many images: their mean and covariance, and a random choice of them."""

import typing
import zipfile

import numpy as np

from nvae_tf.files import new_file


class Features(typing.NamedTuple):
    """Summary of the features of a set of images.

    Attributes:
        count: number of images.
        mean, covariance: float64 [D] and [D, D].
        sample: a random choice of the features, float32 [M, D].
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray
    sample: np.ndarray


def collect(extractor, batches, total, max_features, seed, progress):
    """Summarises `total` images in batches as `Features`; `extractor` maps images to features [B, D].

    `max_features` of them are kept; which ones depends only on the seed and the order, not on the batches. They are
    not the first ones, because data sets may be sorted by class.

    Raises:
        ValueError: features that are not finite.
    """
    kept = np.zeros(total, bool)
    kept[np.random.default_rng(seed).choice(total, min(max_features, total), replace=False)] = True
    sample, count, origin, summed, scatter = [], 0, None, 0.0, 0.0
    for images in batches:
        features = np.asarray(extractor(images), np.float64)
        if not np.isfinite(features).all():
            raise ValueError("features: expected finite numbers. Received: NaN or infinity")
        # Sums about a point near the mean: those about 0 would cancel where the mean is large compared with the spread.
        origin = features.mean(axis=0) if origin is None else origin
        summed = summed + (features - origin).sum(axis=0)
        scatter = scatter + (features - origin).T @ (features - origin)
        sample.append(features[kept[count : count + len(features)]].astype(np.float32))
        count += len(features)
        progress(count)
    mean = summed / count
    covariance = (scatter - count * np.outer(mean, mean)) / (count - 1)
    return Features(count, origin + mean, covariance, np.concatenate(sample))


def _read(path, names):
    """{name: array} of an .npz file; raises `ValueError` for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (ValueError, TypeError, LookupError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        expected = "an .npz file with " + ", ".join(names)
        raise ValueError(f"{path}: expected {expected}. Received: {type(error).__name__}, {error}") from error


def save_moments(path, mean, covariance):
    """Writes `mu` [D] and `sigma` [D, D] as .npz, the format that FID programs exchange."""
    with new_file(path) as temporary:
        np.savez(temporary, mu=mean, sigma=covariance)


def load_moments(path, dim):
    """(mean, covariance), float64, in an .npz file with finite `mu` [dim] and `sigma` [dim, dim]."""
    arrays = _read(path, ("mu", "sigma"))
    mean, covariance = arrays["mu"], arrays["sigma"]
    if (mean.shape, covariance.shape) != ((dim,), (dim, dim)):
        raise ValueError(
            f"{path}: expected mu [{dim}] and sigma [{dim}, {dim}], because the Inception file gives {dim} features. "
            f"Received: {list(mean.shape)} and {list(covariance.shape)}"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"{path}: expected finite numbers in {name}. Received: {array.dtype}, NaN or infinity")
    return mean.astype(np.float64), covariance.astype(np.float64)


def save_features(path, features):
    """Writes `Features` as .npz."""
    with new_file(path) as temporary:
        np.savez(temporary, **features._asdict())


def load_features(path):
    """Reads `Features` from a file that `save_features` wrote."""
    features = Features(**_read(path, Features._fields))
    return features._replace(count=int(features.count))
