"""A checkpoint matches its model exactly, or the differing names are listed and nothing is converted."""

import dataclasses

import keras
import numpy as np
import pytest

from nvae_tf.convert.apply import model_from_checkpoint
from nvae_tf.convert.name_map import UNUSED_START, name_map, to_our_layout
from nvae_tf.convert.torch_reader import ConversionError

ONE_GROUP = {"num_latent_scales": 1, "num_groups_per_scale": 1, "num_nf": 1}


@pytest.fixture(scope="module")
def checkpoint(official_model, official_checkpoint):
    return official_checkpoint(official_model())


def changed(checkpoint, arguments=None, without=(), **arrays):
    kept = {name: array for name, array in checkpoint.arrays.items() if name not in without}
    arguments = checkpoint.arguments | (arguments or {})
    return dataclasses.replace(checkpoint, arrays=kept | arrays, arguments=arguments)


def assert_refused(checkpoint, *parts):
    with pytest.raises(ConversionError) as caught:
        model_from_checkpoint(checkpoint)
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("arguments", [{}, ONE_GROUP])
def test_every_variable_gets_its_values(official_model, official_checkpoint, arguments):
    checkpoint = official_checkpoint(official_model(**arguments), **arguments)
    model = model_from_checkpoint(checkpoint)
    for name, variable in name_map(model).items():
        np.testing.assert_array_equal(variable.numpy(), to_our_layout(checkpoint.arrays[name], variable))
    assert model.config.data.dataset == "mnist" and model.config.model == model.model_config


def test_names_of_both_sides_are_listed(checkpoint):
    message = assert_refused(
        changed(checkpoint, without=("stem.bias", "enc0.1.weight"), **{"other.weight": np.zeros(3, np.float32)}),
        "in the checkpoint, not in the model:\n    other.weight",
        "in the model, not in the checkpoint:\n    enc0.1.weight\n    stem.bias",
    )
    assert "stem.weight" not in message and "num_batches_tracked" not in message


def test_shapes_are_listed(checkpoint):
    flat = {"stem.weight": np.zeros([8, 9], np.float32), "stem.bias": np.zeros(7, np.float32)}
    assert_refused(
        changed(checkpoint, **flat),
        "stem.weight: expected (3, 3, 1, 8). Received: (8, 9)",
        "stem.bias: expected (8,). Received: (7,)",
    )


def test_the_learned_start_is_unused_only_with_one_group(official_model, official_checkpoint, checkpoint):
    one = official_checkpoint(official_model(**ONE_GROUP), **ONE_GROUP)
    assert UNUSED_START in one.arrays
    model_from_checkpoint(changed(one, without=(UNUSED_START,)))
    assert_refused(changed(checkpoint, without=(UNUSED_START,)), f"not in the checkpoint:\n    {UNUSED_START}")


def test_the_config_must_be_that_of_the_weights(checkpoint):
    assert_refused(changed(checkpoint, {"num_channels_enc": 16}), "stem.bias: expected (16,). Received: (8,)")
    assert_refused(changed(checkpoint, {"use_se": False}), "not in the model:", "pre_process.0.se.se.0.bias")
    assert_refused(changed(checkpoint, {"num_groups_per_scale": 3}), "not in the checkpoint:", "enc_sampler.5.weight")


def test_a_model_larger_than_memory_is_refused_without_making_it(checkpoint):
    # A single kernel of this model has 618 GB.
    wide = {"num_channels_enc": 4096, "num_channels_dec": 4096, "num_latent_scales": 5, "num_preprocess_blocks": 1}
    groups = {"num_groups_per_scale": 1}
    assert_refused(changed(checkpoint, wide | groups), "stem.bias: expected (4096,). Received: (8,)")
    # No variable is left behind that Keras would give values at the end of another scope.
    with keras.StatelessScope():
        pass


def test_more_layers_than_entries_are_refused(checkpoint):
    for arguments in (
        {"num_cell_per_cond_dec": 4096, "num_groups_per_scale": 4096},
        {"num_preprocess_cells": 4096},
        {"num_nf": 4096},
    ):
        assert_refused(changed(checkpoint, arguments), "state_dict: expected at least", "entries", "Received: ")
