"""The tiny model that tests share, as a configuration, as a model and as a run folder."""

import keras
import numpy as np

import nvae_tf
from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.config import Config, DataConfig, ModelConfig


def model_config(size=16, **overrides):
    """`ModelConfig` of a Bernoulli model with three groups on two scales; keywords override fields.

    Args:
        size: height and width of the images. Default 16, the size of the digits.
    """
    fields = {
        "image_height": size,
        "image_width": size,
        "num_scales": 2,
        "groups_per_scale": 2,
        "adaptive_groups": True,
        "latent_channels": 2,
        "encoder_channels": 4,
        "decoder_channels": 4,
        "preprocess_blocks": 1,
        "preprocess_cells": 1,
        "postprocess_blocks": 1,
        "postprocess_cells": 1,
        "encoder_cells_per_group": 1,
        "decoder_cells_per_group": 1,
    }
    return ModelConfig(**(fields | overrides))


def perturb(layer, seed=0):
    """Moves every variable of a layer away from its initial value and returns the layer."""
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        # Multiply first, so that running variances stay positive.
        value = variable.numpy() * rng.uniform(0.7, 1.4, variable.shape)
        if variable.name != "moving_variance":
            value = value + 0.1 * rng.normal(size=variable.shape)
        variable.assign(value.astype(np.float32))
    return layer


def model(size=16, **overrides):
    """Perturbed `nvae_tf.NVAE` of `model_config`; the same weights every time."""
    keras.utils.set_random_seed(0)
    return perturb(nvae_tf.NVAE(model_config(size, **overrides), name="nvae"))


def write_run(folder, step=3, size=16, **overrides):
    """Writes a run folder with a checkpoint of `model` at `step`, as if trained on digits, and returns its path."""
    nvae = model(size, **overrides)
    config = Config(model=nvae.model_config, data=DataConfig(dataset="digits", binarize=True))
    run = RunFolder(folder).create(config)
    run.save(step, {"model": model_variables(nvae), "optimizer": {"rate": keras.Variable(1.0)}})
    return run.path
