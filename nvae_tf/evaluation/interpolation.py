"""The way from one image's noise to another's."""

import numpy as np


def slerp(first, second, fractions):
    """Spherical interpolation: the direction turns evenly, and the norm changes evenly from one to the other.

    Two standard normals of many values have nearly the same norm, which a straight line between them would leave.

    Args:
        first, second: arrays of one shape.
        fractions: list of B numbers, 0 for `first` to 1 for `second`.

    Returns:
        float32 [B, ...]; at 0 and 1 exactly the two arrays.
    """
    one, other = (np.asarray(end, np.float64).ravel() for end in (first, second))
    norms = np.linalg.norm(one), np.linalg.norm(other)
    # The zero vector has no direction: it takes the other's.
    one, other = (_unit(one if norms[0] else other), _unit(other if norms[1] else one))
    cosine = one @ other
    across = other - cosine * one
    sine = np.linalg.norm(across)
    if sine < 1e-6:
        # Parallel, which needs no direction to turn in, or opposite, where every one is as short: a fixed one.
        across = np.eye(1, len(one), np.argmin(np.abs(one)))[0]
        across -= (across @ one) * one
    angle, across = np.arctan2(sine, cosine), _unit(across)
    rows = [
        ((1 - t) * norms[0] + t * norms[1]) * (np.cos(t * angle) * one + np.sin(t * angle) * across) for t in fractions
    ]
    rows = np.reshape(rows, (-1, *np.shape(first))).astype(np.float32)
    for row, fraction in zip(rows, fractions, strict=True):
        if fraction in (0, 1):
            row[...] = second if fraction else first
    return rows


def _unit(vector):
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


def interpolate(first, second, fractions):
    """`slerp` of each group's noise.

    Args:
        first, second: arrays [h, w, latent_channels], one for each group.
        fractions: list of B numbers from 0 to 1.

    Returns:
        List of float32 arrays [B, h, w, latent_channels].
    """
    return [slerp(one, other, fractions) for one, other in zip(first, second, strict=True)]
