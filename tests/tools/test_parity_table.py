"""The program that prints the exports' table."""

import pytest

from nvae_tf.export.parity import write_parity


def test_prints_the_table_of_the_files(program, tmp_path, capsys):
    output = {"max_error": 0.1, "mean_error": 0.01, "relative": 0.001}
    entry = {"file": "f", "bytes": 1, "runtime": "r", "version": "1", "seconds": 1.0, "outputs": {"params": output}}
    write_parity(tmp_path, "ONNX", [entry])
    program("parity_table").main([str(tmp_path / "parity.json")])
    assert "| ONNX | f | 0.0 | r 1 | 1000.00 | 1.0e-01 | 1.0e-02 | 1.0e-03 |" in capsys.readouterr().out


def test_a_missing_file_is_named(program, tmp_path):
    with pytest.raises(OSError, match="nothing.json"):
        program("parity_table").main([str(tmp_path / "nothing.json")])
