"""The audit of half precision: it rounds as float16 does, and finds numbers that do not fit."""

import math

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite.check.half_audit import audit, relative_error, rounded
from nvae_tf.export.tflite.check.run import random_inputs, run_file
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from tests.export.tflite.tiny_tflite import SHAPES, convert, good

_X = {"x": [1, 4, 4, 6]}


def _half(x):
    return np.asarray(x).astype(np.float16).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    """Function from a file's content to (path, graph)."""

    def write(content):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path, TFLiteGraph(content)

    return write


def test_rounded(save):
    """Constants, inputs and the result of every op are float16 numbers, bit for bit."""
    content = convert(lambda x: {"a": (y := x * 0.1) + 1.7, "b": tf.abs(y)}, **_X)
    path, graph = save(rounded(content))
    inputs = random_inputs(graph, 3, seed=0)
    received = run_file(path, graph, inputs, "reference").outputs
    product = _half(_half(inputs["x"]) * _half(0.1))
    np.testing.assert_array_equal(received["b"], np.abs(product))
    np.testing.assert_array_equal(received["a"], _half(product + _half(1.7)))


@pytest.mark.parametrize("half", [False, True])
def test_good(save, half):
    """A decoder whose numbers are small, with weights in either precision."""
    path, graph = save(convert(good, half=half, **SHAPES))
    magnitudes, errors = audit(path, graph, random_inputs(graph, 8, seed=0, temperatures=(1.0, 1.0)))
    assert not any(magnitude.at_risk for magnitude in magnitudes)
    assert magnitudes == sorted(magnitudes, key=lambda one: one.largest, reverse=True)
    assert set(errors) == {"likelihood_params", "mean_image"}
    for largest, mean in errors.values():
        assert 1e-6 < mean < largest < 1e-2


def test_infinite(save):
    """exp of an unbounded number and large weights leave float16; outputs that depend on them are infinitely wrong."""
    large = tf.constant([1e5] * 6)
    path, graph = save(convert(lambda x: {"y": tf.exp(4.0 * x), "z": tf.tanh(x), "w": tf.tanh(x) * large}, **_X))
    magnitudes, errors = audit(path, graph, random_inputs(graph, 8, seed=0))
    risks = {one.source: one for one in magnitudes if one.at_risk}
    assert set(risks) == {"EXP", "weights", "MUL"}
    assert risks["EXP"].margin < 1 and str(risks["EXP"]).startswith("AT RISK: EXP: y: ")
    assert errors["y"] == (math.inf, math.inf)
    assert errors["z"][0] < 1e-3


def test_sum_of_a_mean(save):
    """What MEAN adds up before it divides counts even if it cancels: here the upper half of 300 overflows."""
    signs = np.full([1, 32, 32, 1], 300.0, np.float32)
    signs[:, 16:] = -299.0
    path, graph = save(convert(lambda x: {"y": tf.reduce_mean(x * signs, [1, 2], keepdims=True)}, x=[1, 32, 32, 1]))
    magnitudes, _ = audit(path, graph, {"x": np.ones([1, 1, 32, 32, 1], np.float32)})
    (risk,) = [magnitude for magnitude in magnitudes if magnitude.at_risk]
    assert (risk.source, risk.tensor) == ("sum of MEAN", "y")
    assert risk.largest == 512 * 599 and risk.margin < 1


def test_relative_error():
    """Over the largest expected magnitude; infinite if a number is not finite."""
    assert relative_error(np.array([1.0, 4.5]), np.array([1.0, 5.0])) == (0.1, 0.05)
    assert relative_error(np.array([np.nan, 5.0]), np.array([1.0, 5.0])) == (math.inf, math.inf)
    assert relative_error(np.array([1.0, 5.0]), np.array([1.0, np.nan])) == (math.inf, math.inf)
    assert relative_error(np.zeros(2), np.zeros(2)) == (0.0, 0.0)
