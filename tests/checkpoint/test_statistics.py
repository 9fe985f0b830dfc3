"""Readjusted batch-norm statistics beside a checkpoint."""

import numpy as np
import pytest

from nvae_tf.checkpoint import CheckpointError, DamagedCheckpointError
from nvae_tf.checkpoint.statistics import list_temperatures, load_statistics, save_statistics


def test_statistics_are_loaded_by_temperature_and_average(tmp_path):
    for number, (temperature, average) in enumerate(((0.6, False), (1.0, False), (0.6, True))):
        save_statistics(tmp_path, temperature, average, {"0000/moving_mean": np.full(3, number, np.float32)})
    assert [load_statistics(tmp_path, *key)["0000/moving_mean"][0] for key in ((0.6, False), (1, False), (0.6, 1))] == [
        0,
        1,
        2,
    ]
    assert list_temperatures(tmp_path, False) == [0.6, 1.0] and list_temperatures(tmp_path, True) == [0.6]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "batch_norm_t0.6.npz",
        "batch_norm_t0.6_ema.npz",
        "batch_norm_t1.npz",
    ]


def test_missing_temperature_says_which_there_are(tmp_path):
    save_statistics(tmp_path, 0.6, False, {"a": np.zeros(1)})
    with pytest.raises(CheckpointError, match=r"of temperature 0.7 .*Received: those of \[0.6\]"):
        load_statistics(tmp_path, 0.7, False)
    with pytest.raises(CheckpointError, match="Received: those of none"):
        load_statistics(tmp_path, 0.6, True)


def test_damaged_file(tmp_path):
    path = save_statistics(tmp_path, 0.6, False, {"a": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedCheckpointError, match="batch_norm_t0.6.npz: expected statistics"):
        load_statistics(tmp_path, 0.6, False)
