"""The images that programs begin with: some of a data set, or some that the prior draws."""

from nvae_tf.runs.data import load_images

_ENCODED_AT_ONCE = 8


def run_config(run_dir, step=None):
    """`Config` of a run folder; raises CheckpointError where there is none, or no such step."""
    from nvae_tf.checkpoint import RunFolder

    folder = RunFolder(run_dir)
    folder.resolve_step(step)
    return folder.config


def indexed_batches(images, config, batch_size, seed):
    """Batches of a split with their images' numbers.

    Args:
        images: `ImageSet`.
        config: `Config` of the run.
        batch_size: images of each.
        seed: of the binarisation.

    Yields:
        int64 [B] and float32 [B, H, W, C] in [0, 1]; damaged images are left out.
    """
    from nvae_tf.data.batches import eval_batches

    number = 0
    for batch in eval_batches(images, config.data, config.model.bit_depth, batch_size, seed):
        numbers = []
        while len(numbers) < len(batch):
            # All images up to the batch's last have been read: those that are damaged are known.
            if number not in images.damage.indices:
                numbers.append(number)
            number += 1
        yield numbers, batch.numpy()


def chosen_images(config, data_dir, split, numbers, seed):
    """Images of a split by their numbers, in the order of these.

    Args:
        config: `Config` of the run.
        data_dir: folder of the data set's files.
        split: `"train"`, `"validation"` or `"test"`.
        numbers: list of int; those up to the largest are read.
        seed: of the binarisation.

    Returns:
        float32 [N, H, W, C] in [0, 1].

    Raises:
        ValueError: there is no such image, or it is damaged; or as `load_images` does.
        FileNotFoundError: the data set's files are not there.
    """
    import numpy as np

    images = load_images(config, data_dir, split, max(numbers) + 1)
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
    """What to begin with, as the flags of `run_flags.define_starts` say.

    Args:
        config: `Config` of the run.
        flags: with `images`, `seeds`, `data_dir`, `split`, `seed` and `temperature`.

    Attributes:
        keys: list of (seed, index) that decide the noise of each.

    Raises:
        ValueError, FileNotFoundError: as `chosen_images` does.
    """

    def __init__(self, config, flags):
        self.temperature, self._images = flags.temperature, None
        if flags.seeds:
            self.keys = [(int(seed), 0) for seed in flags.seeds]
            return
        self.keys = [(flags.seed, int(number)) for number in flags.images]
        numbers = [number for _, number in self.keys]
        self._images = chosen_images(config, flags.data_dir, flags.split, numbers, flags.seed)

    def noise(self, model, kernels):
        """The prior's noise of each: list of lists, one float32 array [1, h, w, latent_channels] for each group."""
        from nvae_tf.evaluation.latents import draw_rows, posterior_noise

        if self._images is None:
            return [draw_rows(model, seed, index, [0], self.temperature) for seed, index in self.keys]
        numbers = [number for _, number in self.keys]
        size = min(len(numbers), _ENCODED_AT_ONCE)
        noise = posterior_noise(model, self._images, numbers, self.keys[0][0], kernels=kernels, batch_size=size)
        return [[eps[row : row + 1] for eps in noise] for row in range(len(numbers))]
