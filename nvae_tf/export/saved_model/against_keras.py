"""Compares the answers of the exported signatures with the Keras model that they were made from."""

import numpy as np
import tensorflow as tf

from nvae_tf.export.parity import agreement_with_keras
from nvae_tf.export.saved_model.decode_in_graph import to_bytes, to_model
from nvae_tf.hierarchy import PIXELS
from nvae_tf.models.noise import keyed_noise, row_keys
from nvae_tf.models.pixels import draw_pixels

# Limit of rounding for the share of pixel values that differ.
_MAX_SHARE_OF_PIXELS = 1e-2


def keras_parity(nvae, answers, binarize, pixels):
    """Errors of the golden answers of `sample`, `decode` and `score`; ValueError if one exceeds rounding.

    They are `{output: errors of parity.measure}` of likelihood_params, kl_per_group and nelbo, and the share of the
    pixel values of images that differ.
    """
    request, received = answers["decode"]
    noise = [request[name] for name in sorted(request) if name.startswith("noise_")]
    outputs = {"likelihood_params": _errors(received, "likelihood_params", _generate(nvae, noise, request))}

    request, received = answers["score"]
    seen = to_model(tf.constant(request["image"]), nvae.model_config, binarize)
    output = nvae(seen, noise=_noise(nvae, request["seed"]))
    log_prob = nvae.likelihood(output.likelihood_params).log_prob(seen)
    nelbo = tf.reduce_sum(output.kl_per_group, axis=1) - log_prob
    outputs["kl_per_group"] = _errors(received, "kl_per_group", output.kl_per_group)
    outputs["nelbo"] = _errors(received, "nelbo", nelbo)

    request, received = answers["sample"]
    params = _generate(nvae, _noise(nvae, request["seed"]), request)
    keys = row_keys(request["seed"], tf.zeros_like(request["seed"]), purpose=PIXELS)
    expected = to_bytes(draw_pixels(nvae, params, pixels, keys)).numpy()
    pixels_that_differ = float(np.mean(received["image"] != expected))
    if pixels_that_differ > _MAX_SHARE_OF_PIXELS:
        raise ValueError(f"image: expected the pixels that Keras gives. Received: {pixels_that_differ:.1%} others")
    return outputs, pixels_that_differ


def _noise(nvae, seed):
    return keyed_noise(nvae.noise_shapes(len(seed)), row_keys(seed, tf.zeros_like(seed)))


def _generate(nvae, noise, request):
    return nvae.generate(noise, temperature=tf.constant(request["temperature"]))


def _errors(received, name, expected):
    return agreement_with_keras(name, received[name], expected, "float32")
