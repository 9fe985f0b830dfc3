"""The audit of half precision: rounding is that of float16, and what does not fit is found."""

import math

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.export.tflite.check.half_audit import audit, relative_error, rounded
from nvae_tf.export.tflite.check.run import check_runtime, draws, run
from nvae_tf.export.tflite.flatbuffer import TFLiteGraph
from tests.export.tflite.tiny_tflite import SHAPES, convert, good

_X = {"x": [1, 4, 4, 6]}


@pytest.fixture(autouse=True, scope="module")
def runtime():
    """A machine without ai-edge-litert fails here with the words that say what to install."""
    check_runtime()


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
    """Constants, inputs and every op's result are float16 numbers, bit for bit."""
    content = convert(lambda x: {"a": (y := x * 0.1) + 1.7, "b": tf.abs(y)}, **_X)
    path, graph = save(rounded(content))
    inputs = draws(graph, 3, seed=0)
    received = run(path, graph, inputs, "reference").outputs
    product = _half(_half(inputs["x"]) * _half(0.1))
    np.testing.assert_array_equal(received["b"], np.abs(product))
    np.testing.assert_array_equal(received["a"], _half(product + _half(1.7)))


def test_good(save):
    """A decoder whose numbers are small; in files of either weights the same."""
    for half in (False, True):
        path, graph = save(convert(good, half=half, **SHAPES))
        result = audit(path, graph, draws(graph, 8, seed=0, temperatures=(1.0, 1.0)))
        assert not result.at_risk
        assert result.magnitudes == sorted(result.magnitudes, key=lambda one: one.largest, reverse=True)
        assert set(result.errors) == {"likelihood_params", "mean_image"}
        for largest, mean in result.errors.values():
            assert 1e-6 < mean < largest < 1e-2


def test_infinite(save):
    """exp of an unbounded number leaves float16: the op is at risk and the outputs are infinitely wrong."""
    path, graph = save(convert(lambda x: {"y": tf.exp(4.0 * x), "z": tf.tanh(x)}, **_X))
    result = audit(path, graph, draws(graph, 8, seed=0))
    assert [(risk.source, risk.tensor) for risk in result.at_risk] == [("EXP", "y")]
    assert result.at_risk[0].margin < 1
    assert str(result.at_risk[0]).startswith("AT RISK: EXP: y: ")
    assert result.errors["y"] == (math.inf, math.inf)
    assert result.errors["z"][0] < 1e-3


def test_sum_of_a_mean(save):
    """What MEAN adds up before it divides counts, though every activation is small."""
    path, graph = save(convert(lambda x: {"y": tf.reduce_mean(x + 90.0, [1, 2], keepdims=True)}, x=[1, 16, 16, 2]))
    result = audit(path, graph, draws(graph, 1, seed=0))
    assert [(risk.source, risk.tensor) for risk in result.at_risk] == [("sum of MEAN", "y")]
    assert 85 * 256 < result.at_risk[0].largest < 95 * 256


def test_sum_of_a_mean_of_either_sign(save):
    """An upper half of 300 overflows though the lower half takes all of it away again."""
    signs = np.full([1, 32, 32, 1], 300.0, np.float32)
    signs[:, 16:] = -299.0
    path, graph = save(convert(lambda x: {"y": tf.reduce_mean(x * signs, [1, 2], keepdims=True)}, x=[1, 32, 32, 1]))
    result = audit(path, graph, {"x": np.ones([1, 1, 32, 32, 1], np.float32)})
    assert [(risk.source, risk.tensor) for risk in result.at_risk] == [("sum of MEAN", "y")]
    assert result.at_risk[0].largest == 512 * 599 and result.at_risk[0].margin < 1


def test_large_weights(save):
    """Weights beyond float16."""
    path, graph = save(convert(lambda x: {"y": tf.tanh(x) * tf.constant([1e5] * 6)}, **_X))
    result = audit(path, graph, draws(graph, 1, seed=0))
    assert {risk.source for risk in result.at_risk} == {"weights", "MUL"}


def test_relative_error():
    """Over the largest expected magnitude; infinite where a number is not finite."""
    assert relative_error(np.array([1.0, 4.5]), np.array([1.0, 5.0])) == (0.1, 0.05)
    assert relative_error(np.array([np.nan, 5.0]), np.array([1.0, 5.0])) == (math.inf, math.inf)
    assert relative_error(np.array([1.0, 5.0]), np.array([1.0, np.nan])) == (math.inf, math.inf)
    assert relative_error(np.zeros(2), np.zeros(2)) == (0.0, 0.0)
