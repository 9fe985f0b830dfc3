"""The pictures of report.py's page: samples, reconstructions and interpolations, as uint8 grids."""

import contextlib

import numpy as np

from nvae_tf.checkpoint.statistics import list_temperatures, load_statistics
from nvae_tf.data.batches import eval_batches
from nvae_tf.evaluation.interpolation import interpolate
from nvae_tf.evaluation.latents import decode_noise, draw_rows, posterior_noise
from nvae_tf.evaluation.readjust import assign_statistics, statistics_variables
from nvae_tf.evaluation.sampling import evaluated_kernels, reconstruct, sample_images
from nvae_tf.evaluation.write_images import grid
from nvae_tf.models.pixels import crop_padding

_PAIRS_IN_A_ROW = 4
_INTERPOLATION_STEPS = 8
_PRIOR_TEMPERATURE = 0.8  # of the samples between which is interpolated where there are no images


def default_count(side):
    """Images of a grid whose page stays small: fewer of larger images.

    Args:
        side: height of an image.
    """
    return 64 if side <= 64 else 36 if side <= 128 else 16


@contextlib.contextmanager
def _statistics_of(model, folder, temperature):
    """Context with the readjusted batch-norm statistics where the checkpoint has them; gives whether it has."""
    readjusted = temperature in list_temperatures(folder, model.averaged)
    if not readjusted:
        yield False
        return
    variables = statistics_variables(model)
    own = {name: variable.numpy() for name, variable in variables.items()}
    assign_statistics(model, load_statistics(folder, temperature, model.averaged))
    try:
        yield True
    finally:
        assign_statistics(model, own)


def samples(model, folder, temperatures, count, seed=0, batch_size=64):
    """Grids of samples, the same noise in each.

    Args:
        model: `NVAE` of `load_run`.
        folder: `pathlib.Path` of its checkpoint, which may have batch-norm statistics for a temperature.
        temperatures: list of numbers.
        count: images of each grid.
        seed: of the draw. Default 0.
        batch_size: images at once. Default 64.

    Returns:
        List of (temperature, uint8 grid, whether with readjusted batch-norm statistics).
    """
    result, kernels = [], evaluated_kernels(model)
    for temperature in temperatures:
        with _statistics_of(model, folder, temperature) as readjusted:
            images = sample_images(model, count, temperature, seed, batch_size, kernels=kernels)
        result.append((temperature, grid(images), readjusted))
    return result


def first_images(images, config, count, seed=0):
    """float32 [N, H, W, C], padding included: the first images of an `ImageSet`, as the model sees them."""
    batches = eval_batches(images, config.data, config.model.bit_depth, min(count, len(images)), seed, num_images=count)
    return np.concatenate([batch.numpy() for batch in batches])


def reconstructions(model, images, seed=0):
    """uint8 grid of originals, each with its reconstruction to the right."""
    originals = crop_padding(images, model.model_config.padding)
    pairs = np.stack([originals, reconstruct(model, images, seed)], axis=1)
    return grid(pairs.reshape(-1, *originals.shape[1:]), columns=2 * _PAIRS_IN_A_ROW)


def _pairs(noise):
    """[(noise of one image, noise of the next)] of arrays [N, h, w, latent_channels], one for each group."""
    count = len(noise[0])
    return [([eps[i] for eps in noise], [eps[i + 1] for eps in noise]) for i in range(0, count - 1, 2)]


def interpolations(model, images=None, rows=4, seed=0, batch_size=64):
    """uint8 grid; each row goes from one image to another, by the noise of the prior that gives them.

    Args:
        model: `NVAE`.
        images: [2 * rows, H, W, C], padding included, reconstructions of which are the ends; or None for samples of
            the prior. Default None.
        rows: how many ways. Default 4.
        seed: of the posterior's or the prior's draw. Default 0.
        batch_size: images at once. Default 64.

    Returns:
        (grid, caption).
    """
    if images is None:
        noise = draw_rows(model, seed, 0, range(2 * rows), _PRIOR_TEMPERATURE)
        ends = f"samples of the prior at temperature {_PRIOR_TEMPERATURE:g}"
    else:
        noise = posterior_noise(model, images, np.arange(len(images)), seed, batch_size=batch_size)
        ends = "reconstructions of two images"
    fractions = np.linspace(0.0, 1.0, _INTERPOLATION_STEPS).tolist()
    ways = [interpolate(*pair, fractions) for pair in _pairs(noise)]
    noise = [np.concatenate(parts) for parts in zip(*ways, strict=True)]
    pictures, _ = decode_noise(model, noise, batch_size=batch_size)
    return grid(pictures, columns=_INTERPOLATION_STEPS), f"Each row goes between two ends: {ends}."
