"""Decoders of published configurations become files that run entirely on a GPU delegate."""

import dataclasses

import pytest

from nvae_tf.export.device_graph import sample_graph
from nvae_tf.export.tflite.check.rules import lint_tflite
from nvae_tf.export.tflite.export import convert_to_tflite
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "celeba_hq256"])
def test_decoder_converts_and_is_fit_for_a_gpu_delegate(shipped_config, name):
    """With all kinds of layers, but fewer groups and channels, on which the rules do not depend."""
    fewer = {"groups_per_scale": 2, "min_groups_per_scale": 1, "encoder_channels": 8, "decoder_channels": 8}
    config = dataclasses.replace(shipped_config(name)["get_config"]().model, **fewer)
    model = InferenceModel(fold(NVAE(config)))
    content = convert_to_tflite(model, sample_graph(model, 1))
    assert [str(finding) for finding in lint_tflite(TFLiteGraph(content))] == []
