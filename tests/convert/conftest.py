"""Official checkpoints of small models, made without the original program."""

import numpy as np
import pytest

from nvae_tf.convert.arguments import config_from_arguments
from nvae_tf.convert.name_map import UNUSED_START, name_map
from nvae_tf.convert.torch_reader import OfficialCheckpoint
from nvae_tf.models.nvae import NVAE

_ARGUMENTS = {"dataset": "mnist", "num_x_bits": 8, "num_nf": 0, "use_se": True, "res_dist": True}
_ARGUMENTS |= {"num_latent_scales": 2, "num_groups_per_scale": 2, "num_latent_per_group": 2}
_ARGUMENTS |= {"num_channels_enc": 8, "num_preprocess_blocks": 1, "num_preprocess_cells": 1}
_ARGUMENTS |= {"num_channels_dec": 8, "num_postprocess_blocks": 1, "num_postprocess_cells": 1}
_ARGUMENTS |= {"num_cell_per_cond_enc": 1, "num_cell_per_cond_dec": 1}

# From our layout to PyTorch's, by rank: HWIO -> OIHW, HWC -> CHW, (in, out) -> (out, in).
_AXES = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}


def _arguments(**changes):
    return _ARGUMENTS | changes


def _model(**changes):
    return NVAE(config_from_arguments(_arguments(**changes)).model)


def _checkpoint(model, seed=0, **changes):
    rng, arrays = np.random.default_rng(seed), {}
    for name, variable in name_map(model).items():
        shape = tuple(variable.shape)
        array = rng.uniform(0.1, 1.0, shape).astype(np.float32).transpose(_AXES[len(shape)])
        arrays[name] = array.reshape(-1, 1, 1, 1) if name.endswith("log_weight_norm") else array
    arrays["stem.weight_normalized"] = np.zeros_like(arrays["stem.weight"])
    arrays["pre_process.0._ops.0.bn_act.num_batches_tracked"] = np.float32(12.0)
    arrays.setdefault(UNUSED_START, np.zeros([16, 16, 16], np.float32))
    return OfficialCheckpoint(arrays=arrays, arguments=_arguments(**changes), global_step=12)


@pytest.fixture(scope="session")
def official_arguments():
    """Function that returns the arguments of a small model with two scales and four groups; keywords override them."""
    return _arguments


@pytest.fixture(scope="session")
def official_model():
    """Function that builds the model of `official_arguments` with initial values."""
    return _model


@pytest.fixture(scope="session")
def official_checkpoint():
    """Function that makes an `OfficialCheckpoint` of random values: official_checkpoint(model, seed=0, **arguments)."""
    return _checkpoint
