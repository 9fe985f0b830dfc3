"""Memory of graphs counted by hand, and what each memory setting saves."""

import dataclasses

import pytest
import tensorflow as tf

from configs import cifar10
from nvae_tf.runs.families import make_model
from nvae_tf.training import memory

MIB = 2**20


def _peak(function, *shapes):
    graph = tf.function(function).get_concrete_function(*map(tf.TensorSpec, shapes)).graph
    return round(memory.peak_bytes(graph.get_operations(), graph.outputs) / MIB, 2)


def test_peak_of_graphs_counted_by_hand():
    one = (512, 512)  # 1 MiB
    matrix = tf.linalg.matmul
    assert _peak(lambda a: tf.reshape(a, [-1]), one) == 1  # a view
    assert _peak(lambda a: matrix(a, a), one) == 2
    assert _peak(lambda a: tf.tanh(tf.exp(matrix(a, a))), one) == 2  # each overwrites its input
    # a, ab and abc are live when the third product is computed; then two at a time.
    assert _peak(lambda a: matrix(matrix(matrix(a, a), a), a), one) == 3
    # Both products stay live to the end.
    assert _peak(lambda a: [matrix(a, a), matrix(a, a + 1.0)], one) == 4


@pytest.mark.slow
def test_each_setting_saves_memory():
    config = cifar10.get_config()
    config.model = dataclasses.replace(config.model, encoder_channels=32, decoder_channels=32, groups_per_scale=4)

    def estimate(**setting):
        train = dataclasses.replace(config.train, batch_size=16, **setting)
        return memory.estimate(dataclasses.replace(config, train=train), make_model)

    plain = estimate()
    assert plain["total"] == plain["state"] + plain["step"]
    # Weights and two moments of 1.5 million parameters.
    assert 16 < plain["state"] / MIB < 18
    assert estimate(remat="cells")["step"] < 0.35 * plain["step"]
    assert estimate(micro_batches=4)["step"] < 0.35 * plain["step"]
    assert 0.4 < estimate(precision="mixed_float16")["step"] / plain["step"] < 0.65
