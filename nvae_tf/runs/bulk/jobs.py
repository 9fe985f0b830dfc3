"""What is computed: the rows of a range of images, which do not depend on how the range came about.

A batch of rows is `{column: list or array [B, ...]}`. Every batch has the column `index`, the numbers of the images.
"""

import dataclasses
import functools
import math

import numpy as np

from nvae_tf import hierarchy
from nvae_tf.data.decode import encode_png
from nvae_tf.data.image_set import from_array, in_memory
from nvae_tf.data.splits import SplitImages
from nvae_tf.evaluation import latent_files
from nvae_tf.evaluation.latents import encode
from nvae_tf.evaluation.likelihood import score_images
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.evaluation.write_images import to_uint8
from nvae_tf.layers.replicas import pad_rows
from nvae_tf.runs.starts import indexed_batches


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Images drawn from the prior, as `sample_images` draws them with the same arguments: column `png`, PNG files."""

    temperatures: list
    pixels: str
    seed: int
    batch_size: int

    def batches(self, model, start, stop):
        """Yields batches of rows of images `start`, a multiple of the batch size, to `stop`."""
        size = self.batch_size
        for first in range(start, stop, size):
            drawn = sample_images(model, size, self.temperatures, self.seed, size, self.pixels, first)
            images = to_uint8(drawn)[: stop - first]
            yield {"index": list(range(first, first + len(images))), "png": [encode_png(image) for image in images]}


@dataclasses.dataclass(frozen=True)
class _OfImages:
    """A computation on `images`, padded by `padding` zeros. Damaged images are left out."""

    images: SplitImages
    padding: int
    seed: int
    batch_size: int

    @functools.cached_property
    def _array(self):
        return in_memory(self.images, self.padding).array

    def _given(self, model, start, stop):
        """Yields (columns `index` and `name`, float32 [B, H, W, C]) of the good images from `start` to `stop`."""
        if self.images.split.decodes:
            part = in_memory(self.images.subset(slice(start, stop)), self.padding, max_damaged=stop - start)
        else:  # one array, which is read as a whole
            part = from_array(self._array[start:stop])
        names = self.images.split.names
        for numbers, batch in indexed_batches(part, model.config, self.batch_size, self.seed, start):
            found = [str(number) if names is None else names[self.images.indices[number]] for number in numbers]
            texts = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in found]
            yield {"index": numbers, "name": texts}, batch


@dataclasses.dataclass(frozen=True)
class Encoding(_OfImages):
    """What `encode` returns of images: columns `index`, `name` and those of `latent_files.layout`."""

    draw: str
    parts: list

    def batches(self, model, start, stop):
        """Yields batches of rows of images `start` to `stop`."""
        names = latent_files.layout(model.model_config, self.parts)
        for columns, images in self._given(model, start, stop):
            encoded = encode(model, images, columns["index"], self.seed, self.draw, self.batch_size)
            yield columns | latent_files.row_arrays(encoded, names)


@dataclasses.dataclass(frozen=True)
class Scoring(_OfImages):
    """What `evaluate` computes of each image, float64: columns `index`, `name` and

    nelbo, nll_bound          -ELBO, and the importance-weighted bound with `num_samples` samples, nats
    nelbo_bits_per_dim, nll_bound_bits_per_dim
    reconstruction, kl        log p(x | z), and the KL of all groups, nats
    kl_per_group              [G], nats
    """

    num_samples: int

    def batches(self, model, start, stop):
        """Yields batches of rows of images `start` to `stop`."""
        bits = hierarchy.num_outputs(model.model_config) * math.log(2.0)
        for columns, images in self._given(model, start, stop):
            count, numbers = len(images), np.array(columns["index"], np.int64)
            rows = [pad_rows(array, self.batch_size) for array in (images, numbers)]
            reconstruction, kl, bound = (
                scores[:count] for scores in score_images(model, *rows, self.num_samples, self.seed)
            )
            nelbo = kl.sum(axis=(1, 2)) - reconstruction
            yield columns | {
                "nelbo": nelbo,
                "nelbo_bits_per_dim": nelbo / bits,
                "nll_bound": bound,
                "nll_bound_bits_per_dim": bound / bits,
                "reconstruction": reconstruction,
                "kl": kl.sum(axis=(1, 2)),
                "kl_per_group": kl.sum(axis=2),
            }
