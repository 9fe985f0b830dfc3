"""The 1,797 handwritten digits that come with scikit-learn: real images that need no download."""

import functools

import numpy as np
from PIL import Image

from nvae_tf.data.sources.reading import array_split

NUM_TEST = 360
_SIZE = 16
_MAX_LEVEL = 16
_SPLIT_SEED = 0


def load_digits(split):
    """The 1,437 training or 360 test images, resized bilinearly from 8x8 to 16x16: uint8 [N, 16, 16, 1]."""
    from sklearn import datasets

    images = [
        Image.fromarray(image.astype(np.float32)).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
        for image in datasets.load_digits().images
    ]
    images = np.rint(255 / _MAX_LEVEL * np.stack(images).astype(np.float64)).astype(np.uint8)[..., np.newaxis]
    # NumPy guarantees the stream of RandomState, so the split never changes.
    images = images[np.random.RandomState(_SPLIT_SEED).permutation(len(images))]
    return images[:-NUM_TEST] if split == "train" else images[-NUM_TEST:]


def _open(split):
    return array_split(f"scikit-learn's digits ({split})", [], functools.partial(load_digits, split), channels=1)


def find_digits(root, info):
    """Finds the digits, which are always available; the arguments are not used."""
    del root, info
    return {split: functools.partial(_open, split) for split in ("train", "test")}
