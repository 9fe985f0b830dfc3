"""Splits of images that behave like files."""

import functools

import numpy as np
import pytest

from nvae_tf.data.decode import DamagedImageError, Fit
from nvae_tf.data.source import SourceSplit
from nvae_tf.data.splits import SplitImages


def _read(images, damaged, indices):
    for index in indices.tolist():
        name = f"number {index}"
        yield name, DamagedImageError(f"{name} is damaged") if index in damaged else images[index]


@pytest.fixture
def split_images():
    """Function that takes uint8 [N, H, W, C] and the numbers of damaged images and returns `SplitImages`."""

    def make(images, damaged=()):
        split = SourceSplit("numbers", len(images), functools.partial(_read, images, damaged))
        return SplitImages(split, np.arange(len(images)), Fit(*images.shape[1:3]), images.shape[3])

    return make
