"""Chooses the settings of a file from its first images."""

import math

import numpy as np
import tensorflow as tf

from nvae_tf.compression.networks import to_images
from nvae_tf.compression.settings import Settings
from nvae_tf.layers.replicas import pad_rows
from nvae_tf.models.noise import keyed_noise, row_keys

# Latent channels with less information, in nats per image, are not coded.
_LEAST_KL = 0.01
# Images from which the settings are chosen.
_NUM_TRIED = 64
_ENTROPY_OF_NORMAL = 0.5 * math.log2(2.0 * math.pi * math.e)


def choose_settings(model, levels, steps, batch_size):
    """The `Settings` for images, from the first 64 of them.

    Args:
        model: `InferenceModel`.
        levels: uint8 [N, h, w, C].
        steps: see `Settings`.
        batch_size: see `Settings`.

    Raises:
        ValueError: the model computes NaN or infinity.
    """
    try_images = tf.function(_try_images, autograph=False)
    parts, count = [], min(len(levels), _NUM_TRIED)
    for start in range(0, count, batch_size):
        rows = pad_rows(levels[start : min(start + batch_size, count)], batch_size)
        numbers = np.arange(start, start + batch_size, dtype=np.int64)
        found = try_images(model, tf.constant(rows), tf.constant(numbers))
        parts.append([part.numpy()[: count - start] for part in found])
    log_prob, kl, log_ratio = (np.concatenate(part).mean(axis=0) for part in zip(*parts, strict=True))
    if not np.isfinite(log_prob + kl.sum()):
        raise ValueError("expected a finite NELBO. Received: a model that computes NaN or infinity")
    active = kl > _LEAST_KL  # [G, C]
    sizes = [math.prod(shape[1:3]) for shape in model.noise_shapes(1)]
    per_latent = np.maximum(log_ratio + math.log2(steps) + _ENTROPY_OF_NORMAL, 0.0)
    taken = float(np.sum(np.array(sizes)[:, np.newaxis] * active * per_latent))
    paid = (float(np.sum(kl * active)) - float(log_prob)) / math.log(2.0)
    growth = max(math.ceil(1.25 * taken / max(paid, 1.0)), 1)
    return Settings(steps, batch_size, growth, tuple(tuple(np.flatnonzero(row).tolist()) for row in active))


def _try_images(model, levels, numbers):
    """log p(x | z) [B], KL [B, G, C], and the mean of log2 of the posterior's scale over the prior's [B, G, C]."""
    images = to_images(levels, model.model_config)
    noise = keyed_noise(model.noise_shapes(numbers.shape[0]), row_keys(0, numbers))
    params, groups = model.infer(images, noise)
    ratios = [tf.math.log(group.posterior.scale / group.prior.scale) / math.log(2.0) for group in groups]
    return (
        model.likelihood(params).log_prob(images),
        tf.stack([group.kl_per_channel for group in groups], axis=1),
        tf.stack([tf.reduce_mean(ratio, axis=(1, 2)) for ratio in ratios], axis=1),
    )
