"""The images that programs start from: images of a data set, or samples of the prior."""

import numpy as np

from nvae_tf.runs.data import load_images
from nvae_tf.runs.data_record import DataRecord

_ENCODED_AT_ONCE = 8


def run_config(run_dir, step=None):
    """`Config` of a run folder; raises CheckpointError if there is none, or no such step."""
    from nvae_tf.checkpoint import RunFolder

    folder = RunFolder(run_dir)
    folder.resolve_step(step)
    return folder.config


def indexed_batches(images, config, batch_size, seed, first=0):
    """Yields (numbers of the images, float32 [B, H, W, C] in [0, 1]) for each batch, without damaged images.

    `first` is the number of the first image, if they are a part of a split.
    """
    from nvae_tf.data.batches import eval_batches

    numbers, start = (images.good + first).tolist(), 0
    for batch in eval_batches(images, config.data, config.model.bit_depth, batch_size, seed, first=first):
        yield numbers[start : start + len(batch)], batch.numpy()
        start += len(batch)


def first_images(config, data_dir, split, count, seed, cache_dir=None, record=None):
    """The first images of a split, float32 [at most count, H, W, C] in [0, 1], padding included."""
    images = load_images(config, data_dir, split, count, cache_dir, record)
    return np.concatenate([batch for _, batch in indexed_batches(images, config, min(count, len(images)), seed)])


def chosen_images(config, data_dir, split, numbers, seed, cache_dir=None, record=None):
    """Images of a split by their numbers, in this order: float32 [N, H, W, C] in [0, 1].

    Raises `ValueError` if there is no such image, or it is damaged.
    """
    images = load_images(config, data_dir, split, max(numbers) + 1, cache_dir, record)
    if max(numbers) >= len(images):
        raise ValueError(
            f"--images: expected numbers below {len(images)}, the number of {split} images. Received: {max(numbers)}"
        )
    found = {}
    for batch_numbers, batch in indexed_batches(images, config, 64, seed):
        found |= {number: batch[row] for row, number in enumerate(batch_numbers) if number in numbers}
    damaged = [number for number in numbers if number not in found]
    if damaged:
        raise ValueError(f"--images: expected images that can be read. Received: {damaged[0]}, which is damaged")
    return np.stack([found[number] for number in numbers])


class Starts:
    """The images or seeds to start from, as given by the flags of `define_images` and `define_starts`; or seeds 1, 2.

    `keys` lists (seed, index), which determine the noise of each start.
    """

    def __init__(self, config, flags):
        self.temperature, self._images = flags.temperature, None
        if not flags.images:
            self.keys = [(int(seed), 0) for seed in flags.seeds or (1, 2)]
            return
        numbers = [int(number) for number in flags.images]
        self.keys = [(flags.seed, number) for number in numbers]
        where = (flags.data_dir, flags.split, numbers, flags.seed, flags.cache_dir)
        self._images = chosen_images(config, *where, DataRecord(flags.run_dir, flags.accept_changed_data))

    def noise(self, model):
        """The prior's noise of each start: a list of lists of float32 arrays [1, h, w, latent_channels]."""
        from nvae_tf.evaluation.latents import draw_rows, encode

        if self._images is None:
            return [draw_rows(model, seed, index, [0], self.temperature) for seed, index in self.keys]
        numbers = [number for _, number in self.keys]
        size = min(len(numbers), _ENCODED_AT_ONCE)
        noise = encode(model, self._images, numbers, self.keys[0][0], batch_size=size).noise
        return [[eps[row : row + 1] for eps in noise] for row in range(len(numbers))]
