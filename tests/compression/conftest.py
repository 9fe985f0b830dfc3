"""Coders of tiny models, which are traced once."""

import dataclasses

import numpy as np
import pytest

from nvae_tf.compression.choice import choose_settings
from nvae_tf.compression.chunk_coder import ChunkCoder
from nvae_tf.compression.levels import image_shape, num_levels
from nvae_tf.compression.networks import CodingNetworks
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from tests import tiny

MODELS = {
    "bernoulli": {"padding": 1},
    "mixture": {"image_channels": 3, "likelihood": "logistic_mixture", "num_mixtures": 2, "padding": 1},
    "five_bits": {
        "image_channels": 2,
        "likelihood": "logistic_mixture",
        "num_mixtures": 2,
        "bit_depth": 5,
        "num_scales": 1,
        "groups_per_scale": 1,
    },
}


class Coding:
    """A tiny model, images for it and their coder.

    Attributes:
        model: `InferenceModel`.
        levels: uint8 [24, h, w, C].
        settings: `Settings`, in which one channel of the first group is not coded.
        coder: `ChunkCoder`.
    """

    def __init__(self, fields):
        self.model = InferenceModel(fold(tiny.model(8, **fields)))
        config = self.model.model_config
        shape = (24, *image_shape(config))
        self.levels = np.random.default_rng(0).integers(num_levels(config), size=shape).astype(np.uint8)
        self.settings = choose_settings(self.model, self.levels, 32, 4)
        first, *others = self.settings.active
        self.settings = dataclasses.replace(self.settings, active=(first[:1], *others), growth=3)
        self.coder = ChunkCoder(CodingNetworks(self.model, self.settings))


@pytest.fixture(scope="session")
def codings():
    """Function from a name in `MODELS` to its `Coding`. Shared: tests must not change them."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = Coding(MODELS[name])
        return made[name]

    return get


@pytest.fixture(scope="session", params=MODELS)
def coding(request, codings):
    """`Coding` of each of `MODELS`."""
    return codings(request.param)
