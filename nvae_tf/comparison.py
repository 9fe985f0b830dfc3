"""Comparison of numbers with those that another program computed, which an .npz file holds."""

from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """The comparison of one key of the file."""

    key: str
    absolute: float  # largest error
    relative: float  # largest error divided by the largest expected value (by a floor for tiny gradients)
    tolerance: float  # largest `relative` that passes
    problem: str | None = None  # why the numbers cannot be compared
    family: str | None = None  # the keys that a table sums up with this one, by what their names begin with

    @property
    def ok(self):
        """Whether the numbers agree; NaN never agrees."""
        return self.problem is None and self.relative <= self.tolerance


def compare(key, ours, expected, tolerance, scale=None, family=None):
    """The `Comparison` of two arrays.

    Args:
        key: name of the array.
        ours, expected: arrays, compared in float64; a difference in shape, or no values, is a problem.
        tolerance: largest error, relative to `scale`, that passes.
        scale: what errors are divided by; None for the largest expected magnitude. Default None.
        family: see `Comparison`. Default None.
    """
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    if ours.shape != expected.shape or not expected.size:
        problem = f"shape {ours.shape} here, {expected.shape} in the file"
        return incomparable(key, problem, tolerance, family)
    absolute = float(np.max(np.abs(ours - expected)))
    scale = largest(expected) if scale is None else scale
    relative = absolute / scale if scale else (0.0 if absolute == 0.0 else np.inf)
    return Comparison(key, absolute, relative, tolerance, family=family)


def incomparable(key, problem, tolerance=np.nan, family=None):
    """The `Comparison` of a key that fails because there is nothing to compare."""
    return Comparison(key, np.nan, np.nan, tolerance, problem, family)


def largest(array):
    """Largest magnitude of an array; 0 if it is empty."""
    return float(np.max(np.abs(array), initial=0.0))


def read_arrays(path):
    """Arrays of an .npz file by key; ValueError if it is missing or damaged, or holds Python objects."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path}: expected an .npz file of numbers. Received: {error}") from None
