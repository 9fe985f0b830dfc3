"""Latents of images, and images decoded from latents that are kept, mixed or moved.

Latents are moved as noise of the prior (`GroupTerms.noise`): the standard normals from which the model generates them.
Every point there gives a valid image, whatever the other groups hold, and values far from 0 are unlikely.
"""

import functools
import typing

import numpy as np
import tensorflow as tf

from nvae_tf.layers.replicas import pad_rows
from nvae_tf.models.noise import keyed_noise, row_keys, slerp
from nvae_tf.models.pixels import draw_pixels


class Encoded(typing.NamedTuple):
    """Posteriors of images; lists hold one float32 array for each group, in generation order.

    Attributes:
        latents: z after the flows, [N, h, w, latent_channels] each.
        locs: means of the posteriors before the flows, of the same shapes; no arrays if the latents are not normal.
        log_scales: logarithms of the posteriors' standard deviations, like `locs`.
        noise: the standard normals from which the prior generates the latents, like `locs`.
        kl_per_group: KL of each group [N, G], nats; with flows log q - log p at the latents.
    """

    latents: list
    locs: list
    log_scales: list
    noise: list
    kl_per_group: np.ndarray


# As in `likelihood`, the model is an argument, not captured: one trace per model, and no reference to keep it alive.
@tf.function(autograph=False)
def _encode(model, seed, draw, images, indices):
    noise = None
    if draw == "sample":
        noise = keyed_noise(model.noise_shapes(tf.shape(images)[0]), row_keys(seed, indices))
    groups = model.infer(images, noise)[1]
    normal = [group for group in groups if hasattr(group, "posterior")]
    return Encoded(
        latents=[group.latent for group in groups],
        locs=[group.posterior.loc for group in normal],
        log_scales=[tf.math.log(group.posterior.scale) for group in normal],
        noise=[(group.latent - group.prior.loc) / group.prior.scale for group in normal],
        kl_per_group=tf.stack([tf.reduce_sum(group.kl_per_channel, axis=1) for group in groups], axis=1),
    )


@tf.function(autograph=False)
def _decode(model, given, values, images=None):
    params = model.generate(values) if given == "noise" else model.decode(values)
    decoded = draw_pixels(model, params)
    return (decoded,) if images is None else (decoded, model.likelihood(params).log_prob(images))


@tf.function(autograph=False)
def _draw(model, keys):
    return keyed_noise(model.noise_shapes(tf.shape(keys)[0]), keys)


def _in_batches(function, inputs, batch_size):
    """Outputs of a function of arrays [N, ...], always called with the same number of rows: one trace serves all."""
    count = len(tf.nest.flatten(inputs)[0])
    size, outputs = batch_size or count, []
    for start in range(0, count, size):
        part = tf.nest.map_structure(lambda rows, start=start: pad_rows(rows[start : start + size], size), inputs)
        outputs.append(tf.nest.map_structure(np.asarray, function(*part)))
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts)[:count], *outputs)


def encode(model, images, indices, seed=0, draw="sample", batch_size=None):
    """Encodes images.

    Args:
        model: `InferenceModel` or `UnfoldedModel`.
        images: [N, H, W, C] in [0, 1], padding included.
        indices: int [N], positions of the images in their data set, which determine the draw together with the seed.
        seed: random seed, at least 0. Default 0.
        draw: `"sample"` for a sample of the posteriors, `"mean"` for the mean of each group given the means before it.
            Default `"sample"`.
        batch_size: images at once, smaller batches are padded; None for all. Default None.

    Returns:
        `Encoded`.
    """
    inputs, seed = (np.asarray(images, np.float32), np.asarray(indices, np.int64)), tf.constant(seed, tf.int64)
    return _in_batches(functools.partial(_encode, model, seed, draw), inputs, batch_size)


def decode_noise(model, noise, images=None, batch_size=None):
    """Decodes images from noise of the prior.

    Args:
        model: `InferenceModel` or `UnfoldedModel`.
        noise: list of standard normals [N, h, w, latent_channels], possibly times a temperature.
        images: [N, H, W, C] in [0, 1], padding included, whose likelihood is computed; None to skip it. Default None.
        batch_size: images at once, smaller batches are padded; None for all. Default None.

    Returns:
        (means of p(x | z), float32 [N, h, w, C] in [0, 1], padding cropped; log p(x | z) of `images` [N], nats, or
        None).
    """
    return _decode_in_batches(model, "noise", noise, images, batch_size)


def decode_latents(model, latents, images=None, batch_size=None):
    """Decodes images from latents, a list of arrays [N, ...]; otherwise like `decode_noise`."""
    return _decode_in_batches(model, "latents", latents, images, batch_size)


def _decode_in_batches(model, given, values, images, batch_size):
    inputs = (list(values),) if images is None else (list(values), np.asarray(images, np.float32))
    decoded, *log_likelihood = _in_batches(functools.partial(_decode, model, given), inputs, batch_size)
    return decoded, log_likelihood[0] if log_likelihood else None


def draw_rows(model, seed, index, samples, temperature=1.0):
    """Noise for an image and B sample numbers, `samples`: a list of float32 arrays [B, h, w, latent_channels].

    Sample 0 is the noise of image `index` of `sample_images`.
    """
    keys = row_keys(seed, np.full(len(samples), index), np.asarray(samples))
    return [eps.numpy() * np.float32(temperature) for eps in _draw(model, keys)]


def interpolate(model, first, second, num, batch_size):
    """Images [num, h, w, C] on the spherical interpolation between two images' noise, both ends included.

    `first` and `second` are lists of arrays [1, h, w, latent_channels].
    """
    fractions, size, parts = np.linspace(0.0, 1.0, num), min(batch_size, num), []
    for start in range(0, num, size):  # the noise of all images may not fit in memory
        part = fractions[start : start + size]
        ends = zip(first, second, strict=True)
        noise = [slerp(*(np.repeat(end, len(part), axis=0) for end in pair), part).numpy() for pair in ends]
        parts.append(decode_noise(model, noise, batch_size=size)[0])
    return np.concatenate(parts)


def keep_first(noise, fresh, counts):
    """Noise of an image with its first k groups kept and the others from `fresh`, for each k in `counts`.

    `noise` and `fresh` are lists of arrays [1, h, w, latent_channels]; the result has a row for each k.
    """
    return [
        np.concatenate([kept if group < count else other for count in counts])
        for group, (kept, other) in enumerate(zip(noise, fresh, strict=True))
    ]


def replace_groups(noise, fresh, groups):
    """Noise of an image, then of copies in which the groups with some indices are replaced by those of `fresh`.

    `noise` is a list of arrays [1, h, w, latent_channels], `fresh` of arrays [B, ...]; the result has 1 + B rows.
    """
    return [
        np.concatenate([kept, other if group in groups else np.repeat(kept, len(other), axis=0)])
        for group, (kept, other) in enumerate(zip(noise, fresh, strict=True))
    ]


def with_channel(noise, channel, values):
    """Copies of an image's noise, in each of which a latent channel is set to one of the values everywhere."""
    rows = [np.repeat(eps, len(values), axis=0) for eps in noise]
    for row in rows:
        row[..., channel] = np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]
    return rows
