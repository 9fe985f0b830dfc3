"""Looking at what the latents hold: their values for images, and images from latents that are kept, mixed or moved.

Latents are moved as noise of the prior (`NVAE.prior_noise`): the standard normals from which the model generates them.
A point there is a whole image whatever the groups before it say, and values far from 0 are unlikely ones.
"""

import functools
import typing

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.sampling import evaluated_kernels
from nvae_tf.layers.kernels import shared_kernels
from nvae_tf.models.noise import keyed_noise, row_keys
from nvae_tf.models.pixels import draw_pixels

DRAWS = ("mean", "sample")


class Encoded(typing.NamedTuple):
    """What the posteriors say of images; lists have one float32 array for each group, in generation order.

    Attributes:
        latents: z after the flows, [N, h, w, latent_channels] each.
        locs: means of the posteriors before the flows, of the same shapes.
        log_scales: logarithms of the posteriors' standard deviations, of the same shapes.
        kl_per_group: KL of each group [N, G], nats; with flows log q - log p at the latents.
    """

    latents: list
    locs: list
    log_scales: list
    kl_per_group: np.ndarray


def _infer(model, images, indices, seed, draw):
    shapes = model.noise_shapes(tf.shape(images)[0])
    noise = keyed_noise(shapes, row_keys(seed, indices)) if draw == "sample" else [tf.zeros(shape) for shape in shapes]
    return model.decoder.infer(model.encoder(images, training=False), noise, training=False)[1]


# The model is an argument, not captured, as in `likelihood`: one trace for each model, and no reference to keep it.
@tf.function(autograph=False)
def _encode(model, kernels, seed, draw, images, indices):
    with shared_kernels(model.kernel_stacks, kernels):
        terms = _infer(model, images, indices, seed, draw)
    return Encoded(
        latents=[group.latent for group in terms],
        locs=[group.posterior_loc for group in terms],
        log_scales=[tf.math.log(group.posterior_scale) for group in terms],
        kl_per_group=tf.stack([tf.reduce_sum(group.kl_per_channel, 1) for group in terms], axis=1),
    )


@tf.function(autograph=False)
def _posterior_noise(model, kernels, seed, draw, images, indices):
    with shared_kernels(model.kernel_stacks, kernels):
        return model.prior_noise([group.latent for group in _infer(model, images, indices, seed, draw)])


@tf.function(autograph=False)
def _decode(model, kernels, noise, images=None):
    with shared_kernels(model.kernel_stacks, kernels):
        params = model.generate(noise)
    pictures = draw_pixels(model, params)
    return (pictures,) if images is None else (pictures, model.likelihood(params).log_prob(images))


@tf.function(autograph=False)
def _draw(model, keys):
    return keyed_noise(model.noise_shapes(tf.shape(keys)[0]), keys)


def _pad(rows, size):
    return np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _in_batches(function, inputs, batch_size):
    """Output of a function of arrays [N, ...], always called with so many rows: one trace serves all."""
    count = len(tf.nest.flatten(inputs)[0])
    size, outputs = batch_size or count, []
    for start in range(0, count, size):
        part = tf.nest.map_structure(lambda rows, start=start: _pad(rows[start : start + size], size), inputs)
        outputs.append(tf.nest.map_structure(np.asarray, function(*part)))
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts)[:count], *outputs)


def _of_images(function, model, images, indices, seed, draw, kernels, batch_size):
    if draw not in DRAWS:
        raise ValueError(f"draw: expected one of {DRAWS}. Received: {draw!r}")
    kernels = evaluated_kernels(model) if kernels is None else kernels
    inputs, seed = (np.asarray(images, np.float32), np.asarray(indices, np.int64)), tf.constant(seed, tf.int64)
    return _in_batches(functools.partial(function, model, kernels, seed, draw), inputs, batch_size)


def encode(model, images, indices, seed=0, draw="sample", kernels=None, batch_size=None):
    """Encodes images.

    Args:
        model: `NVAE`.
        images: [N, H, W, C] in [0, 1], padding included.
        indices: int [N], the images' places in their data set: with the seed they decide the draw.
        seed: of the draw, at least 0. Default 0.
        draw: `"sample"` of the posteriors, or `"mean"`: each group's mean, given the means before it. Default
            `"sample"`.
        kernels: `evaluated_kernels` of the model; evaluated here if None. Default None.
        batch_size: images at once, to which fewer are filled up; None for all. Default None.

    Returns:
        `Encoded`.

    Raises:
        ValueError: another `draw`.
    """
    return _of_images(_encode, model, images, indices, seed, draw, kernels, batch_size)


def posterior_noise(model, images, indices, seed=0, draw="sample", kernels=None, batch_size=None):
    """The prior's noise that gives the latents of images; the arguments are those of `encode`.

    Returns:
        List of float32 arrays [N, h, w, latent_channels], one for each group.
    """
    return _of_images(_posterior_noise, model, images, indices, seed, draw, kernels, batch_size)


def decode_noise(model, noise, images=None, kernels=None, batch_size=None):
    """Images that the prior's noise gives.

    Args:
        model: `NVAE`.
        noise: standard normals [N, h, w, latent_channels] of each group; times a temperature for samples at one.
        images: [N, H, W, C] in [0, 1] whose likelihood is asked for, padding included, or None. Default None.
        kernels: `evaluated_kernels` of the model; evaluated here if None. Default None.
        batch_size: images at once, to which fewer are filled up; None for all. Default None.

    Returns:
        Means of p(x | z), float32 [N, h, w, C] in [0, 1], padding cropped; and log p(x | z) of `images` [N], nats, or
        None.
    """
    kernels = evaluated_kernels(model) if kernels is None else kernels
    inputs = (list(noise),) if images is None else (list(noise), np.asarray(images, np.float32))
    pictures, *log_likelihood = _in_batches(functools.partial(_decode, model, kernels), inputs, batch_size)
    return pictures, log_likelihood[0] if log_likelihood else None


def draw_rows(model, seed, index, samples, temperature=1.0):
    """Noise of some samples for one image: with seed s, index i and sample 0 that of image i of `sample_images`.

    Args:
        model: `NVAE`.
        seed: at least 0.
        index: of the image.
        samples: int [B], which draws.
        temperature: factor of the noise. Default 1.

    Returns:
        List of float32 arrays [B, h, w, latent_channels], one for each group.
    """
    keys = row_keys(seed, np.full(len(samples), index), np.asarray(samples))
    return [eps.numpy() * np.float32(temperature) for eps in _draw(model, keys)]


def keep_first(noise, fresh, counts):
    """Noise of one image with the first k groups kept and the others fresh, for several k.

    Args:
        noise, fresh: arrays [1, h, w, latent_channels], one for each group.
        counts: list of k.

    Returns:
        List of arrays [len(counts), h, w, latent_channels], one for each group.
    """
    return [
        np.concatenate([kept if group < count else other for count in counts])
        for group, (kept, other) in enumerate(zip(noise, fresh, strict=True))
    ]


def replace_groups(noise, fresh, groups):
    """Noise of one image again and again, with some groups replaced in every row but the first.

    Args:
        noise: arrays [1, h, w, latent_channels], one for each group.
        fresh: arrays [B, h, w, latent_channels], one for each group.
        groups: indices of the groups that are replaced.

    Returns:
        List of arrays [1 + B, h, w, latent_channels]; row 0 is `noise`, and so are all rows of the other groups.
    """
    return [
        np.concatenate([kept, other if group in groups else np.repeat(kept, len(other), axis=0)])
        for group, (kept, other) in enumerate(zip(noise, fresh, strict=True))
    ]


def with_channel(noise, channel, values):
    """Noise of one image with one channel set, in every group and at every place, to each of some values.

    Args:
        noise: arrays [1, h, w, latent_channels], one for each group.
        channel: index of the latent channel.
        values: list of B numbers.

    Returns:
        List of arrays [B, h, w, latent_channels], for `replace_groups`.
    """
    rows = [np.repeat(eps, len(values), axis=0) for eps in noise]
    for row in rows:
        row[..., channel] = np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]
    return rows
