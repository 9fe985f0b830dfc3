"""Reference numbers that the original program computed from a checkpoint, and their comparison with ours.

A file (.npz, PyTorch's layout) holds images `x`, noise `eps_G` for each group, and any of the keys in `_KEYS`: results
in inference and in training mode, samples, gradients, regularisers, batch-norm statistics after one pass, and the loss
over some steps of Adamax. The part of a key after a slash is the official name of a parameter or statistic.
"""

import re
from typing import NamedTuple

import numpy as np

from nvae_tf.convert.name_map import to_our_layout

# A gradient below this fraction of the largest of all gradients is mostly rounding noise (that of a bias before a batch
# norm, for example, is 0 in exact arithmetic). Its error is taken relative to this floor, with a larger tolerance.
_GRADIENT_FLOOR = 1e-4
_NOISE_TOLERANCE = 1e-1
_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_INPUTS = re.compile(r"x|eps_\d+")


class Comparison(NamedTuple):
    """The comparison of one key of the file."""

    key: str
    absolute: float  # largest error
    relative: float  # largest error divided by the largest expected value (by a floor for tiny gradients)
    tolerance: float  # largest `relative` that passes
    problem: str | None = None  # why the numbers cannot be compared

    @property
    def ok(self):
        """Whether the numbers agree; NaN never agrees."""
        return self.problem is None and self.relative <= self.tolerance


def read_expected(path):
    """Arrays of an .npz file by key; ValueError if it is missing, damaged, or holds anything but numbers."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: np.asarray(file[key], np.float64) for key in file.files}
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path}: expected an .npz file of numbers. Received: {error}") from None


def inputs(expected):
    """Images and noise tensors of a file; ValueError without images, or if the noise is not numbered from 0."""
    count = sum(key.startswith("eps_") for key in expected)
    names = ["x", *(f"eps_{group}" for group in range(count))]
    missing = [name for name in names if name not in expected]
    if missing or not count:
        raise ValueError(f"expected the keys x, eps_0, eps_1, ... Received: {count} of noise, without {missing}")
    return expected["x"], [expected[name] for name in names[1:]]


def channels_last(array):
    """NCHW -> NHWC; arrays of another rank are unchanged."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _image_like(numbers, like):
    """Both arrays with channels last; a file may hold only the first images."""
    count = len(like) if like.ndim else None
    return np.asarray(numbers)[:count], channels_last(like)


def _inference(ours, like, name):
    output, loss = ours.inference, ours.reconstruction_loss
    if name == "logits":
        return _image_like(output.likelihood_params, like)
    values = {
        "log_q": lambda: output.log_q,
        "log_p": lambda: output.log_p,
        "kl_all": lambda: output.kl_per_group,
        "recon_loss": lambda: loss,
        "nelbo": lambda: loss + np.sum(output.kl_per_group, axis=1),
        "log_iw": lambda: output.log_p - output.log_q - loss,
    }
    return values[name](), like


def _sample_mean(ours, like, temperature):
    return _image_like(ours.model.likelihood(ours.sample(float(temperature))).mean(), like)


def _kl_coefficients(ours, like, weight):
    return ours.training_terms(float(weight)).kl_coefficients / float(weight), like


def _gradient(ours, like, weight, name):
    if name in ours.unused:
        return np.zeros_like(like), like
    return ours.gradients(float(weight))[name], to_our_layout(like, ours.variables[name])


def _trajectory(ours, like, rate, decay, weight):
    return ours.trajectory(float(rate), float(decay), float(weight), steps=like.size), like


# (pattern, tolerance, function of (our numbers, expected array, *groups of the pattern) that returns both arrays in one
# layout and raises LookupError if the model has nothing to compare).
_KEYS = [
    (r"eval_(logits|log_q|log_p|kl_all|recon_loss|nelbo|log_iw)", 1e-4, _inference),
    (r"eval_kl_diag_(\d+)", 1e-4, lambda ours, like, i: (np.mean(ours.inference.kl_per_channel, 0)[int(i)], like)),
    (rf"sample_logits_t{_NUMBER}", 1e-4, lambda ours, like, t: _image_like(ours.sample(float(t)), like)),
    (rf"sample_mean_t{_NUMBER}", 1e-4, _sample_mean),
    (rf"train_logits_kl{_NUMBER}", 1e-4, lambda ours, like, _: _image_like(ours.training.likelihood_params, like)),
    (rf"train_loss_kl{_NUMBER}", 1e-4, lambda ours, like, weight: (ours.training_terms(float(weight)).loss, like)),
    (rf"train_kl_coeffs_kl{_NUMBER}", 1e-4, _kl_coefficients),
    (rf"grad_kl{_NUMBER}/(.+)", 1e-3, _gradient),
    (r"bn_after/(.+)", 1e-4, lambda ours, like, name: (ours.statistics[name], like)),
    (rf"trajectory_lr{_NUMBER}_wd{_NUMBER}_kl{_NUMBER}", 1e-3, _trajectory),
    (r"spectral_exact", 1e-3, lambda ours, like: (ours.spectral(), like)),
    (r"bn_loss", 1e-5, lambda ours, like: (ours.batch_norm_loss(), like)),
]


def _largest(array):
    return float(np.max(np.abs(array), initial=0.0))


def _gradient_floors(expected):
    """The scale below which gradients are noise, for each KL weight W of the keys `grad_klW`."""
    floors = {}
    for key, value in expected.items():
        family, slash, _ = key.partition("/")
        if slash and family.startswith("grad_"):
            floors[family] = max(floors.get(family, 0.0), _GRADIENT_FLOOR * _largest(value))
    return floors


def _measure(key, tolerance, ours, like, floor):
    ours, like = np.asarray(ours, np.float64), np.asarray(like, np.float64)
    if ours.shape != like.shape or not like.size:
        return Comparison(key, np.nan, np.nan, tolerance, f"shape {ours.shape} here, {like.shape} in the file")
    absolute = float(np.max(np.abs(ours - like)))
    scale = _largest(like)
    if scale < floor:
        scale, tolerance = floor, _NOISE_TOLERANCE
    relative = absolute / scale if scale else (0.0 if absolute == 0.0 else np.inf)
    return Comparison(key, absolute, relative, tolerance)


def compare_numbers(ours, expected):
    """Yields the `Comparison` of each key of a file with the `Reproduction` of its inputs; unknown keys fail."""
    floors = _gradient_floors(expected)
    for key, like in expected.items():
        if not _INPUTS.fullmatch(key):
            yield _compare_one(ours, key, like, floors.get(key.partition("/")[0], 0.0))


def _compare_one(ours, key, like, floor):
    for pattern, tolerance, function in _KEYS:
        if found := re.fullmatch(pattern, key):
            try:
                return _measure(key, tolerance, *function(ours, like, *found.groups()), floor)
            except (LookupError, ValueError) as error:
                return Comparison(key, np.nan, np.nan, tolerance, f"nothing to compare ({error})")
    return Comparison(key, np.nan, np.nan, np.nan, "unknown key")
