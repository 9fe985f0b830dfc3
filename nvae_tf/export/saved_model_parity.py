"""Answers of the exported signatures against the Keras model that they were made from."""

import numpy as np
import tensorflow as tf

from nvae_tf.export.pictures import to_bytes, to_model
from nvae_tf.models.noise import PIXELS, keyed_noise, row_keys
from nvae_tf.models.pixels import draw_pixels

# Largest error relative to the largest value; of images the largest share of pixel values that differ.
_LIMITS = {"likelihood_params": 1e-4, "kl_per_group": 1e-4, "nelbo": 1e-4, "image": 1e-2}


def keras_parity(nvae, answers, binarize, pixels):
    """Compares.

    Args:
        nvae: `NVAE`.
        answers: `{signature: ({input: array}, {output: array})}` with `sample`, `decode` and `score`.
        binarize, pixels: as of `Signatures`.

    Returns:
        `{"likelihood_params": {"max_error", "relative"}, "kl_per_group": the same, "nelbo": the same,
        "image": {"values_that_differ": share}}`.
    """
    request, received = answers["decode"]
    noise = [request[name] for name in sorted(request) if name.startswith("noise_")]
    result = {"likelihood_params": _errors(received, "likelihood_params", _generate(nvae, noise, request))}

    request, received = answers["score"]
    seen = to_model(tf.constant(request["image"]), nvae.model_config, binarize)
    output = nvae(seen, noise=_noise(nvae, request["seed"]))
    log_prob = nvae.likelihood(output.likelihood_params).log_prob(seen)
    nelbo = tf.reduce_sum(output.kl_per_group, axis=1) - log_prob
    result["kl_per_group"] = _errors(received, "kl_per_group", output.kl_per_group)
    result["nelbo"] = _errors(received, "nelbo", nelbo)

    request, received = answers["sample"]
    params = _generate(nvae, _noise(nvae, request["seed"]), request)
    keys = row_keys(request["seed"], tf.zeros_like(request["seed"]), purpose=PIXELS)
    image = to_bytes(draw_pixels(nvae, params, pixels, keys))
    result["image"] = {"values_that_differ": float(np.mean(received["image"] != image))}
    return result


def beyond_limits(parity):
    """Texts of what differs by more than rounding in what `keras_parity` found."""
    for name, figures in parity.items():
        error, limit = list(figures.values())[-1], _LIMITS[name]
        if not error <= limit:  # NaN is none
            yield f"{name} differs from Keras by {error:.1e}. Expected: at most {limit:.0e}"


def _noise(nvae, seed):
    return keyed_noise(nvae.noise_shapes(len(seed)), row_keys(seed, tf.zeros_like(seed)))


def _generate(nvae, noise, request):
    return nvae.generate(noise, temperature=tf.constant(request["temperature"]))


def _errors(received, name, expected):
    expected = expected.numpy()
    error = float(np.max(np.abs(received[name] - expected)))
    return {"max_error": error, "relative": error / float(np.max(np.abs(expected)))}
