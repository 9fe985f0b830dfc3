"""The grids of a report that take more than one call: samples at several temperatures, and interpolations."""

import numpy as np

from nvae_tf.checkpoint.statistics import list_temperatures, load_statistics
from nvae_tf.evaluation.latents import draw_rows, encode, interpolate
from nvae_tf.evaluation.readjust import assign_statistics, statistics_variables
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.evaluation.write_images import grid
from nvae_tf.inference.model import refold

_INTERPOLATION_STEPS = 8
_PRIOR_TEMPERATURE = 0.8  # of the samples at the ends of interpolations if there are no images


def default_count(height):
    """Number of images in a grid: fewer of larger images, so that the page stays small."""
    return 64 if height <= 64 else 36 if height <= 128 else 16


def samples(nvae, model, folder, temperatures, count, seed, batch_size):
    """List of (temperature, uint8 grid of samples, whether batch norm was readjusted for it); all have the same noise.

    The last is None for a model without batch norm.

    `model` is what `refold` returned for `nvae`, a model of any family; `folder` is that of the checkpoint, which may
    hold batch-norm statistics for a temperature.
    """
    result, own = [], {name: variable.numpy() for name, variable in statistics_variables(nvae).items()}
    available = list_temperatures(folder, nvae.averaged)
    for temperature in temperatures:
        readjusted = temperature in available if own else None
        assign_statistics(nvae, load_statistics(folder, temperature, nvae.averaged) if readjusted else own)
        refold(nvae, model)
        images = sample_images(model, count, temperature, seed, batch_size)
        result.append((temperature, grid(images), readjusted))
    assign_statistics(nvae, own)
    refold(nvae, model)
    return result


def interpolations(model, images, rows, seed, batch_size):
    """(uint8 grid, caption): each row goes from one image to another through the noise of the prior.

    The ends are reconstructions of `images` [2 * rows, H, W, C], or samples of the prior if they are None.
    """
    if images is None:
        noise = draw_rows(model, seed, 0, range(2 * rows), _PRIOR_TEMPERATURE)
        ends = f"samples of the prior at temperature {_PRIOR_TEMPERATURE:g}"
    else:
        noise = encode(model, images, np.arange(len(images)), seed, batch_size=batch_size).noise
        ends = "reconstructions of two images"
    single = [[eps[i : i + 1] for eps in noise] for i in range(len(noise[0]))]
    pairs = zip(single[::2], single[1::2], strict=False)
    images = [interpolate(model, *pair, _INTERPOLATION_STEPS, batch_size) for pair in pairs]
    return grid(np.concatenate(images), columns=_INTERPOLATION_STEPS), f"Each row goes from one end to another: {ends}."
