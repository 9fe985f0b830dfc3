"""The figures of tools/benchmark.py on a tiny model."""

import pytest
import tensorflow as tf

from nvae_tf.config import Config, TrainConfig
from nvae_tf.runs.benchmark_step import measure_memory, training_speed
from tests import tiny

_CONFIG = Config(model=tiny.model_config(groups_per_scale=1), train=TrainConfig(batch_size=2))


def test_figures_of_speed_agree_with_each_other():
    figures = training_speed(_CONFIG, count=3, strategy=tf.distribute.get_strategy(), num_samples=8)
    assert min(figures.values()) > 0
    assert {"start_up_seconds", "sample_seconds", "peak_memory_mib"} <= set(figures)
    assert figures["bound_8_images_per_second"] < figures["nelbo_images_per_second"]
    assert figures["step_units"] == pytest.approx(figures["step_seconds"] / figures["unit_seconds"])
    assert figures["images_per_second"] == pytest.approx(2 / figures["step_seconds"])


@pytest.mark.slow
def test_a_measured_step_takes_memory_and_time():
    found = measure_memory(_CONFIG)
    assert 0 < found["step"] < found["total"] and found["step_seconds"] > 0
