"""The figures of tools/benchmark.py on the smallest model."""

import re

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import Config, ModelConfig
from nvae_tf.export.saved_model.signatures import Signatures
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs import benchmark_export
from nvae_tf.runs.benchmark_step import forward_flops, speed

# One group without preprocessing: five convolutions that can be counted by hand.
_ONE_GROUP = ModelConfig(
    image_height=4,
    image_width=8,
    num_scales=1,
    groups_per_scale=1,
    latent_channels=2,
    encoder_channels=3,
    decoder_channels=3,
    preprocess_blocks=0,
    postprocess_blocks=0,
)
_CONFIG = Config(model=_ONE_GROUP)


def test_operations_equal_those_counted_by_hand():
    stem, top = 9 * 1 * 3, 3 * 3
    posterior_head, merge, likelihood_head = 9 * 3 * 4, 2 * 3, 9 * 3 * 1
    pixels = 4 * 8
    assert forward_flops(NVAE(_ONE_GROUP)) == 2 * pixels * (stem + top + posterior_head + merge + likelihood_head)


def test_figures_of_speed_agree_with_each_other():
    figures = speed(_CONFIG, batch_size=2, count=3, strategy=tf.distribute.get_strategy())
    assert figures["start_up_seconds"] >= figures["build_seconds"] > 0 and figures["sample_seconds"] > 0
    assert figures["parameters"] == sum(np.prod(variable.shape) for variable in NVAE(_ONE_GROUP).trainable_variables)
    assert figures["step_units"] == pytest.approx(figures["step_seconds"] / figures["unit_seconds"])
    assert figures["images_per_second"] == pytest.approx(2 / figures["step_seconds"])
    assert 0 < figures["fraction_of_matmul"] < 1 and figures["peak_memory_mib"] > 10


def test_every_runtime_is_timed():
    seconds = benchmark_export.device_speed(_CONFIG, count=2)["seconds"]
    names = {"TFLite", "onnxruntime", "SavedModel", "model.generate in a tf.function", "model.generate"}
    assert set(seconds) == names and min(seconds.values()) > 0


def test_served_model_is_timed(capsys):
    figures = benchmark_export.serving_speed(_CONFIG, batch_size=2, count=2)
    assert set(figures["seconds"]) == {"sample of the SavedModel", "model.generate", "unit"}
    assert all(value > 0 for value in [*figures["seconds"].values(), figures["first_batch_seconds"]])
    printed = capsys.readouterr().out
    assert printed.startswith("drawing 2 images:") and re.search(r"unit +[0-9.]+ ms +1.00 units", printed)


def test_served_model_that_draws_another_image_is_refused(monkeypatch):
    sample = Signatures._sample
    monkeypatch.setattr(Signatures, "_sample", lambda self, seed, temperature: sample(self, seed + 1, temperature))
    with pytest.raises(ValueError, match="sample of the SavedModel: expected the image of model.generate"):
        benchmark_export.serving_speed(_CONFIG, batch_size=2, count=1)
