"""Decoders of published configurations, with initial weights, become files that run entirely on a GPU delegate."""

import pytest

from nvae_tf.export.device_graph import sample_graph
from nvae_tf.export.tflite.check.rules import lint_tflite
from nvae_tf.export.tflite.export import convert_to_tflite
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph, cost
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.models.nvae import NVAE


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, parameters, macs, megabytes",
    [("cifar10", 51_333_931, 13.26, 205.6), ("celeba_hq256", 118_140_529, 67.33, 472.8)],
)
def test_decoder_converts_and_is_fit_for_a_gpu_delegate(shipped_config, name, parameters, macs, megabytes):
    config = shipped_config(name)["get_config"]()
    model = InferenceModel(fold(NVAE(config.model)))
    content = convert_to_tflite(model, sample_graph(model, 1))
    assert [str(finding) for finding in lint_tflite(TFLiteGraph(content))] == []
    # The figures of saved_models/ON_DEVICE.md.
    received = cost(content)
    assert received["parameters"] == parameters
    assert received["macs"] / 1e9 == pytest.approx(macs, abs=0.01)
    assert len(content) / 1e6 == pytest.approx(megabytes, abs=0.1)
