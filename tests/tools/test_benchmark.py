"""The figures of tools/benchmark.py are those of the model it was given."""

import pytest

from nvae_tf.config import Config
from nvae_tf.models.nvae import NVAE
from tests.tools.one_group import ONE_GROUP
from tools.benchmark import Benchmark, forward_flops


@pytest.fixture(scope="module")
def model():
    return NVAE(ONE_GROUP)


def test_operations_are_those_counted_by_hand(model):
    pixels = 4 * 8
    stem, top = 9 * 1 * 3, 3 * 3
    posterior_head, merge, likelihood_head = 9 * 3 * 4, 2 * 3, 9 * 3 * 1
    assert forward_flops(model) == 2 * pixels * (stem + top + posterior_head + merge + likelihood_head)


def test_figures_are_there_and_agree_with_each_other():
    benchmark = Benchmark(Config(model=ONE_GROUP), batch_size=2, count=3)
    built = benchmark.train()
    benchmark.sample(built)
    benchmark.finish(built)
    figures = benchmark.figures
    assert figures["parameters"] == built.count_params()
    assert figures["start_up_seconds"] >= figures["build_seconds"] > 0
    assert figures["step_units"] == pytest.approx(figures["step_seconds"] / figures["unit_seconds"])
    assert figures["images_per_second"] == pytest.approx(2 / figures["step_seconds"])
    assert 0 < figures["fraction_of_matmul"] < 1
    assert figures["peak_memory_mib"] > 10
