"""The host's half of a decoder on a device: from likelihood parameters to pixels, with NumPy only.

The graph on the device ends at the likelihood's parameters, because delegates have no argmax and no random numbers.
The rest is here, short enough to be rewritten in another language (tools/web/host_sampler.js, and the Kotlin and
Swift of saved_models/ON_DEVICE.md). The likelihoods are those of nvae_tf.distributions, with noise as an argument.
`params` is always [..., H, W, P], as the decoder returns it, including padding; images are float32 [..., H, W, C] in
[0, 1].
"""

import numpy as np

from nvae_tf.export.tflite import philox
from nvae_tf.hierarchy import PIXELS, num_mixture_pieces, sort_mixture_pieces

_MIN_LOG_SCALE = -7.0
# Some uniforms have their logarithm taken twice, so they stay away from 0 and 1.
_OPEN_INTERVAL = (1e-5, 1.0 - 1e-5)
_BOUND = 5.0
_MIN_SCALE = 1e-2


def bernoulli_mean(logits):
    """Probability of a 1 for every value."""
    # This form of the sigmoid never overflows.
    return np.exp(-np.logaddexp(np.float32(0), -np.asarray(logits, np.float32)))


def draw_logistic_mixture(params, num_channels, component_uniforms, value_uniforms):
    """Picks a component for each pixel, draws its logistics, and runs the chain over channels; [..., H, W, C].

    The uniforms, in [1e-5, 1 - 1e-5], are [..., H, W, num_mixtures] for the components and [..., H, W, C] for values.
    """
    logits, *groups = _split_mixture(params, num_channels)
    picked = np.argmax(logits - np.log(-np.log(component_uniforms)), axis=-1, keepdims=True)  # the Gumbel trick
    means, log_scales, coefficients = (
        [np.take_along_axis(values, picked, axis=-1)[..., 0] for values in group] for group in groups
    )
    logistics = np.log(value_uniforms) - np.log1p(-value_uniforms)
    values = [
        mean + np.exp(log_scale) * logistics[..., channel]
        for channel, (mean, log_scale) in enumerate(zip(means, log_scales, strict=True))
    ]
    return _chain(values, coefficients)


def draw_normal(params, normals):
    """Location plus scale times a standard normal, [..., H, W, C], clipped to an image."""
    loc, log_scale = np.split(np.asarray(params, np.float32), 2, axis=-1)
    scale = np.exp(_soft_clamp(log_scale)) + np.float32(_MIN_SCALE)
    return np.clip((_soft_clamp(loc) + scale * normals + np.float32(1)) / np.float32(2), 0, 1)


def latent_noise(shapes, seed, index=0):
    """The decoder's noise for one image, equal to that of tools/sample.py for this seed and image.

    Args:
        shapes: list of [1, h, w, latent_channels], one for each noise input in order.
        seed: int, at least 0.
        index: number of the image among those of the seed. Default 0.

    Returns:
        List of float32 standard normals.
    """
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(philox.standard_normal(philox.row_key(seed, index), [ends[-1]]), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def mean_image(params, likelihood, num_channels):
    """The likelihood's mean image.

    Args:
        params: [..., H, W, P].
        likelihood: likelihood.kind of the sidecar, "bernoulli", "logistic_mixture" or "normal".
        num_channels: C of the image.

    Raises:
        ValueError: another likelihood, or a P that does not fit it.
    """
    params = _checked(params, likelihood, num_channels)
    if likelihood == "bernoulli":
        return bernoulli_mean(params)
    if likelihood == "normal":
        return draw_normal(params, np.float32(0))
    logits, means, _, coefficients = _split_mixture(params, num_channels)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return _chain(*([(weights * values).sum(axis=-1) for values in group] for group in (means, coefficients)))


def draw_image(params, likelihood, num_channels, seed, index=0):
    """An image drawn from the likelihood, as by tools/sample.py --pixels=sample for this seed and image.

    Args:
        params: [1, H, W, P].
        likelihood, num_channels: as in `mean_image`.
        seed, index: as in `latent_noise`.

    Raises:
        ValueError: another likelihood, a P that does not fit it, or more than one image.
    """
    params = _checked(params, likelihood, num_channels)
    if params.ndim != 4 or params.shape[0] != 1:
        raise ValueError(f"params: expected [1, H, W, P], of one image. Received: shape {params.shape}")
    key = philox.row_key(seed, index, PIXELS)
    shape = [*params.shape[:-1], num_channels]
    if likelihood == "bernoulli":
        return (philox.uniform(key, shape) < bernoulli_mean(params)).astype(np.float32)
    if likelihood == "normal":
        return draw_normal(params, philox.standard_normal(key, shape))
    shapes = [*params.shape[:-1], params.shape[-1] // num_mixture_pieces(num_channels)], shape
    uniforms = (philox.uniform(*each, *_OPEN_INTERVAL) for each in zip(philox.split_key(key), shapes, strict=True))
    return draw_logistic_mixture(params, num_channels, *uniforms)


def _checked(params, likelihood, num_channels):
    """`params` in float32, if their last axis fits the likelihood."""
    params = np.asarray(params, np.float32)
    pieces = {
        "bernoulli": num_channels,
        "logistic_mixture": num_mixture_pieces(num_channels),
        "normal": 2 * num_channels,
    }
    if likelihood not in pieces:
        raise ValueError(f"likelihood: expected one of {[*pieces]}. Received: {likelihood!r}")
    multiple, rest = divmod(params.shape[-1], pieces[likelihood])
    if rest or (multiple != 1 and likelihood != "logistic_mixture"):
        expected = f"last axis of {pieces[likelihood]}, or a multiple for mixtures"
        raise ValueError(f"params: expected a {expected}, for {likelihood}. Received: shape {params.shape}")
    return params


def _split_mixture(params, num_channels):
    """Logits; lists of mean and log scale per channel and of a coefficient per pair; each [..., H, W, num_mixtures]."""
    pieces = np.split(np.asarray(params, np.float32), num_mixture_pieces(num_channels), axis=-1)
    logits, means, log_scales, coefficients = sort_mixture_pieces(pieces, num_channels)
    log_scales = [np.maximum(log_scale, np.float32(_MIN_LOG_SCALE)) for log_scale in log_scales]
    return logits, means, log_scales, [np.tanh(coefficient) for coefficient in coefficients]


def _chain(values, coefficients):
    """Image from one value per channel, to which the clipped earlier channels are added, times their coefficients."""
    coefficients, done = iter(coefficients), []
    for value in values:
        for before in done:
            value = value + next(coefficients) * before
        done.append(np.clip(value, -1, 1))
    return (np.stack(done, axis=-1) + np.float32(1)) / np.float32(2)


def _soft_clamp(values):
    return np.float32(_BOUND) * np.tanh(values / np.float32(_BOUND))
