"""Images from a model: samples of the prior, and reconstructions."""

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.write_images import grid
from nvae_tf.hierarchy import PIXELS
from nvae_tf.layers.replicas import round_up, run_on_replicas
from nvae_tf.models.noise import group_temperatures, keyed_noise, row_keys
from nvae_tf.models.pixels import PIXEL_CHOICES, crop_padding, draw_pixels


# As in `likelihood`, the model is an argument, not captured: one trace per model, and no reference to keep it alive.
@tf.function(autograph=False)
def _generate(model, indices, temperatures, seed, pixels):
    noise = keyed_noise(model.noise_shapes(tf.shape(indices)[0]), row_keys(seed, indices))
    params = model.generate(noise, tf.unstack(temperatures))
    return draw_pixels(model, params, pixels, row_keys(seed, indices, purpose=PIXELS))


@tf.function(autograph=False)
def _reconstruct(model, images, indices, seed):
    noise = keyed_noise(model.noise_shapes(tf.shape(images)[0]), row_keys(seed, indices))
    return draw_pixels(model, model.infer(images, noise)[0])


def sample_images(
    model, num, temperature=1.0, seed=0, batch_size=64, pixels="mean", first=0, progress=None, strategy=None
):
    """Draws images from the model.

    Image i depends only on (seed, i): its noise is the same in any batch, and the image is the same up to the rounding
    of the convolutions.

    Args:
        model: `InferenceModel` or `UnfoldedModel`.
        num: number of images.
        temperature: factor of every prior's scale, > 0 (arXiv 2007.03898, section 4.2), or a list, one for each scale
            or each group, coarsest first. Default 1. Another family may have another meaning of it.
        seed: random seed, at least 0. Default 0.
        batch_size: images per batch. Default 64.
        pixels: `"mean"` for the mean of the likelihood, `"sample"` for a sample of it. Default `"mean"`.
        first: number i of the first image. Default 0.
        progress: called with the number of images drawn after each batch; None for no calls. Default None.
        strategy: `tf.distribute.Strategy` in whose scope the model was built, all its replicas in this process, which
            share each batch; None for one device. Default None.

    Returns:
        float32 [num, H, W, C] in [0, 1], padding cropped.

    Raises:
        ValueError: a temperature is not positive, or `pixels` is neither of its two values.
    """
    temperatures = tf.constant(group_temperatures(temperature, model.model_config), tf.float32)
    if pixels not in PIXEL_CHOICES:
        raise ValueError(f"pixels: expected one of {PIXEL_CHOICES}. Received: {pixels!r}")
    strategy = strategy or tf.distribute.get_strategy()
    batch_size = round_up(min(batch_size, num), strategy)
    key, batches = tf.constant(seed, tf.int64), []
    for start in range(0, num, batch_size):
        # The last batch is as large as the others, so that one trace serves all.
        indices = np.arange(first + start, first + start + batch_size, dtype=np.int64)
        batches += run_on_replicas(strategy, _generate, model, [indices], temperatures, key, pixels)
        if progress is not None:
            progress(min(start + batch_size, num))
    return np.concatenate(batches)[:num]


def reconstruct(model, images, seed=0, first=0, strategy=None):
    """Means of p(x | z), float32 [B, h, w, C] without padding; z is drawn from the posteriors of images.

    `first` is the number of the first image, which determines the draw with the seed. For `strategy` see
    `sample_images`; B is then a multiple of the number of its replicas.
    """
    rows = [np.asarray(images, np.float32), np.arange(first, first + len(images), dtype=np.int64)]
    strategy = strategy or tf.distribute.get_strategy()
    return run_on_replicas(strategy, _reconstruct, model, rows, tf.constant(seed, tf.int64))[0]


def reconstruction_grid(model, images, seed=0, columns=16):
    """uint8 grid of images [B, H, W, C] in [0, 1], each with its reconstruction to the right."""
    originals = crop_padding(np.asarray(images), model.model_config.padding)
    pairs = np.stack([originals, reconstruct(model, images, seed)], axis=1)
    return grid(pairs.reshape(-1, *originals.shape[1:]), columns)
