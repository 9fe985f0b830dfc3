"""Reference numbers that the original program computed from a checkpoint, and their comparison with ours.

A file (.npz, PyTorch's layout) holds images `x`, noise `eps_G` for each group, and any of the keys in `_KEYS`: results
in inference and in training mode, samples, gradients, regularisers, batch-norm statistics after one pass, and the loss
over some steps of Adamax. The part of a key after a slash is the official name of a parameter or statistic.
"""

import re

import numpy as np

from nvae_tf.comparison import compare, incomparable, largest, read_arrays
from nvae_tf.convert.name_map import to_our_layout

# A gradient below this fraction of the largest of all gradients is mostly rounding noise (that of a bias before a batch
# norm, for example, is 0 in exact arithmetic). Its error is taken relative to this floor, with a larger tolerance.
_GRADIENT_FLOOR = 1e-4
_NOISE_TOLERANCE = 1e-1
_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_INPUTS = re.compile(r"x|eps_\d+")


def read_expected(path):
    """Arrays of an .npz file by key, float64; ValueError if it is missing, damaged, or holds anything but numbers."""
    arrays = read_arrays(path)
    try:
        return {key: np.asarray(array, np.float64) for key, array in arrays.items()}
    except ValueError as error:
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


def _gradient_floors(expected):
    """The scale below which gradients are noise, for each KL weight W of the keys `grad_klW`."""
    floors = {}
    for key, value in expected.items():
        family, slash, _ = key.partition("/")
        if slash and family.startswith("grad_"):
            floors[family] = max(floors.get(family, 0.0), _GRADIENT_FLOOR * largest(value))
    return floors


def compare_numbers(ours, expected):
    """Yields the `Comparison` of each key of a file with the `Reproduction` of its inputs; unknown keys fail."""
    floors = _gradient_floors(expected)
    for key, like in expected.items():
        if not _INPUTS.fullmatch(key):
            yield _compare_one(ours, key, like, floors.get(key.partition("/")[0], 0.0))


def _compare_one(ours, key, like, floor):
    family, slash, _ = key.partition("/")
    family = f"{family}/" if slash else None
    for pattern, tolerance, function in _KEYS:
        if found := re.fullmatch(pattern, key):
            try:
                received, like = function(ours, like, *found.groups())
            except (LookupError, ValueError) as error:
                return incomparable(key, f"nothing to compare ({error})", tolerance, family)
            if largest(like) < floor:
                return compare(key, received, like, _NOISE_TOLERANCE, floor, family)
            return compare(key, received, like, tolerance, family=family)
    return incomparable(key, "unknown key", family=family)
