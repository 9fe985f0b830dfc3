"""Images from a model: samples of the prior, and reconstructions."""

import math

import numpy as np
import tensorflow as tf

from nvae_tf.layers.kernels import shared_kernels

PIXELS = ("mean", "sample")


def crop_padding(images, padding):
    """Images [B, H, W, C] without the pixels that were added on every side."""
    return images[:, padding : images.shape[1] - padding, padding : images.shape[2] - padding, :]


# The model is an argument, not captured, as in `likelihood`: one trace for each model, and no reference to keep it.
@tf.function(autograph=False)
def _generate(model, batch_size, temperature, seed, pixels, kernels):
    latent_seed, pixel_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
    with shared_kernels(model.kernel_stacks, kernels):
        params = model.generate(batch_size=batch_size, temperature=temperature, seed=latent_seed)
    return _pixels(model, params, pixel_seed, pixels)


@tf.function(autograph=False)
def _reconstruct(model, images, seed):
    return _pixels(model, model(images, seed=seed).likelihood_params, None, "mean")


def _pixels(model, params, seed, pixels):
    likelihood = model.likelihood(params)
    images = likelihood.mean() if pixels == "mean" else likelihood.sample(seed=seed)
    return crop_padding(images, model.model_config.padding)


def evaluated_kernels(model):
    """The model's effective kernels as they are now, for many calls of `sample_images`: weight norm once for all."""
    return [stack.effective() for stack in model.kernel_stacks]


def sample_images(model, num, temperature=1.0, seed=0, batch_size=64, pixels="mean", kernels=None):
    """Draws images from the model.

    Args:
        model: `NVAE`.
        num: number of images.
        temperature: factor of every prior's scale, > 0 (arXiv 2007.03898, section 4.2). Default 1.
        seed: of the draw, at least 0; batch b uses (seed, b). Default 0.
        batch_size: images per batch. Default 64.
        pixels: `"mean"` for the likelihood's mean, `"sample"` for a draw from it. Default `"mean"`.
        kernels: `evaluated_kernels` of the model; evaluated here if None. Default None.

    Returns:
        float32 [num, H, W, C] in [0, 1], padding cropped.

    Raises:
        ValueError: an argument out of range.
    """
    for name, value in (("num", num), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1. Received: {value}")
    if not (temperature > 0.0 and math.isfinite(temperature)):
        raise ValueError(f"temperature: expected a positive, finite number. Received: {temperature}")
    if pixels not in PIXELS:
        raise ValueError(f"pixels: expected one of {PIXELS}. Received: {pixels!r}")
    batch_size = min(batch_size, num)
    heat = tf.constant(temperature, tf.float32)
    kernels = evaluated_kernels(model) if kernels is None else kernels
    batches = []
    for index in range(math.ceil(num / batch_size)):
        key = tf.constant([seed, index], tf.int64)
        batches.append(_generate(model, batch_size, heat, key, pixels, kernels).numpy())
    return np.concatenate(batches)[:num]


def reconstruct(model, images, seed=0):
    """Encodes images, draws z from the posterior and decodes the likelihood's mean.

    Args:
        model: `NVAE`.
        images: [B, H, W, C] in [0, 1], padding included.
        seed: of the posterior's draw, at least 0. Default 0.

    Returns:
        float32 [B, h, w, C] in [0, 1], padding cropped.
    """
    images = tf.convert_to_tensor(images, tf.float32)
    return _reconstruct(model, images, tf.constant([seed, 0], tf.int64)).numpy()
