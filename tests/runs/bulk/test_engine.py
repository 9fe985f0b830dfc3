"""What runs in a process of Ray; tests/tools/test_bulk.py runs it there."""

import shutil

import numpy as np

from nvae_tf.runs.bulk.engine import Worker
from nvae_tf.runs.bulk.jobs import Sampling
from nvae_tf.runs.bulk.shards import Work
from nvae_tf.runs.load import choose_weights


def _result(run_dir, folder, job):
    work = Work("sample", job, choose_weights(run_dir), "webdataset", folder, 4, 4)
    work.begin({})
    return {name: values[0] for name, values in Worker(work, None)({"shard": np.array([0])}).items()}


def test_the_failure_of_a_model_is_a_line_and_a_defect_a_traceback(digits_run, tmp_path):
    run_dir = shutil.copytree(digits_run, tmp_path / "run")
    (data,) = run_dir.glob("checkpoints/*/state.data*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 255  # within a kernel
    data.write_bytes(content)
    failed = _result(run_dir, tmp_path / "failed", Sampling([1.0] * 3, "mean", 0, 4))
    assert "expected a readable checkpoint" in failed["error"] and "(on " in failed["error"]
    assert "\n" not in failed["error"] and not failed["traceback"]
    broken = _result(digits_run, tmp_path / "broken", _Broken())
    assert not broken["error"] and broken["traceback"].rstrip().endswith("KeyError: 'nothing'")


class _Broken:
    batch_size = 4

    def batches(self, model, start, stop):
        yield {"index": {}["nothing"]}
