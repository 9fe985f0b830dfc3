"""The figures and limits of parity.json."""

import numpy as np
import pytest

from nvae_tf.export.parity import compare_outputs

_EXPECTED = np.array([[1.0, -4.0]], np.float32)


def _compare(tmp_path, values, precision="float32"):
    path = tmp_path / "decoder.tflite"
    path.write_bytes(bytes(2_000_000))
    cases = [({"noise_00": np.zeros(1)}, {"params": _EXPECTED, "left_out": _EXPECTED})] * 2
    return compare_outputs(path, precision, "runtime", "1.0", lambda inputs: {"params": np.float32(values)}, cases)


def test_errors_are_those_of_the_outputs(tmp_path):
    entry = _compare(tmp_path, [[1.0, -4.1]], "float16")
    assert set(entry["outputs"]) == {"params"}
    output = entry["outputs"]["params"]
    assert output["max_error"] == pytest.approx(0.1, rel=1e-4)
    assert output["mean_error"] == pytest.approx(0.05, rel=1e-4)
    assert output["relative"] == pytest.approx(0.025, rel=1e-4)
    assert entry["seconds"] > 0
    assert (entry["bytes"], entry["precision"], entry["version"]) == (2_000_000, "float16", "1.0")


@pytest.mark.parametrize("value", [-4.1, np.nan], ids=["far", "nan"])
def test_a_file_that_computes_something_else_is_an_error(tmp_path, value):
    with pytest.raises(ValueError, match=r"decoder\.tflite: expected params as Keras gives it, within 1e-04"):
        _compare(tmp_path, [[1.0, value]])
