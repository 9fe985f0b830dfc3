"""The figures of tools/benchmark.py on the smallest model."""

import pytest
import tensorflow as tf

from nvae_tf.config import Config, ModelConfig, TrainConfig
from nvae_tf.models.nvae import NVAE
from nvae_tf.runs.benchmark_export import device_speed, serving_speed
from nvae_tf.runs.benchmark_step import forward_flops, measure_memory, speed

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
_CONFIG = Config(model=_ONE_GROUP, train=TrainConfig(batch_size=2))


def test_operations_equal_those_counted_by_hand():
    stem, top = 9 * 1 * 3, 3 * 3
    posterior_head, merge, likelihood_head = 9 * 3 * 4, 2 * 3, 9 * 3 * 1
    pixels = 4 * 8
    assert forward_flops(NVAE(_ONE_GROUP)) == 2 * pixels * (stem + top + posterior_head + merge + likelihood_head)


def test_figures_of_speed_agree_with_each_other():
    figures = speed(_CONFIG, count=3, strategy=tf.distribute.get_strategy())
    assert min(figures.values()) > 0
    assert figures["step_units"] == pytest.approx(figures["step_seconds"] / figures["unit_seconds"])
    assert figures["images_per_second"] == pytest.approx(2 / figures["step_seconds"])
    assert figures["fraction_of_matmul"] < 1 and figures["peak_memory_mib"] > 10


@pytest.mark.slow
def test_a_measured_step_takes_memory_and_time():
    found = measure_memory(_CONFIG)
    assert 0 < found["step"] < found["total"] and found["step_seconds"] > 0


def test_every_runtime_is_timed(capsys):
    device, served = device_speed(_CONFIG, count=2)["seconds"], serving_speed(_CONFIG, count=2)["seconds"]
    runtimes = {"TFLite", "onnxruntime", "SavedModel", "model.generate in a tf.function", "model.generate"}
    assert set(device) == runtimes and min(device.values()) > 0
    assert set(served) == {"sample of the SavedModel", "model.generate", "unit"} and min(served.values()) > 0
    assert capsys.readouterr().out.count("1.00 times as fast as model.generate") >= 2
