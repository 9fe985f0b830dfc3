"""The 1,797 handwritten digits that come with scikit-learn: real images that need no download."""

import functools

import numpy as np

from nvae_tf.data.stores import ArrayStore

NUM_IMAGES = 1797
NUM_TEST = 360
_MAX_LEVEL = 16
_SPLIT_SEED = 0


def upsample_bilinear_x2(images):
    """Doubles height and width by bilinear interpolation, pixel centres at half-integers.

    Args:
        images: floats, [N, H, W].

    Returns:
        Floats, [N, 2H, 2W].
    """
    for axis in (1, 2):
        images = np.moveaxis(images, axis, -1)
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1)), mode="edge")
        # Each new pixel lies a quarter of the way from an old one to its neighbour.
        before = 0.75 * images + 0.25 * padded[..., :-2]
        after = 0.75 * images + 0.25 * padded[..., 2:]
        images = np.stack([before, after], axis=-1).reshape(*images.shape[:-1], -1)
        images = np.moveaxis(images, -1, axis)
    return images


def read_digits(split):
    """Reads the digits, 8x8 brought to 16x16.

    Args:
        split: `"train"` (1,437 images) or `"test"` (360), by one fixed permutation.

    Returns:
        uint8, [N, 16, 16, 1].

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("dataset: 'digits' comes with scikit-learn; expected `pip install scikit-learn`") from error
    images = upsample_bilinear_x2(load_digits().images.astype(np.float64)) / _MAX_LEVEL
    images = np.rint(255 * images).astype(np.uint8)[..., np.newaxis]
    # RandomState's stream is frozen by NumPy's policy, so that the split never changes.
    images = images[np.random.RandomState(_SPLIT_SEED).permutation(len(images))]
    return images[:-NUM_TEST] if split == "train" else images[-NUM_TEST:]


def _open(split):
    return ArrayStore(read_digits(split), 1, f"scikit-learn's digits ({split})")


def find_digits(root, info):
    """The digits, which are always there.

    Args:
        root: not used; may be None.
        info: not used.

    Returns:
        {"train" and "test": function of nothing that gives a store of uint8 [16, 16, 1]}; the functions raise
        `ImportError` where scikit-learn is not installed.
    """
    del root, info
    return {split: functools.partial(_open, split) for split in ("train", "test")}
