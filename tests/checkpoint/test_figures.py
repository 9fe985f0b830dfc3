import json

import pytest

from nvae_tf.checkpoint.figures import MetricsFile


@pytest.fixture
def metrics(tmp_path):
    return MetricsFile(tmp_path / "metrics.jsonl")


def test_a_line_for_each_row_in_strict_json(metrics):
    assert metrics.read() == []
    metrics.append({"step": 1, "nelbo": float("nan"), "kl_per_group": [1.5, float("inf")]})
    metrics.append({"step": 2, "split": "test"})
    lines = metrics.path.read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == metrics.read()
    assert metrics.read() == [{"step": 1, "nelbo": None, "kl_per_group": [1.5, None]}, {"step": 2, "split": "test"}]


def test_a_truncated_line_is_not_read_and_is_removed_by_rewind(metrics):
    metrics.append({"step": 1})
    with open(metrics.path, "a") as file:
        file.write('{"step": 2, "nel')
    assert metrics.read() == [{"step": 1}]
    metrics.rewind(9)
    metrics.append({"step": 2})
    assert metrics.read() == [{"step": 1}, {"step": 2}]


def test_rewind_removes_later_steps(metrics, tmp_path):
    metrics.rewind(3)  # the file does not exist yet
    assert not metrics.path.exists()
    for step in (1, 3, 5):
        metrics.append({"step": step})
    metrics.rewind(3)
    assert metrics.read() == [{"step": 1}, {"step": 3}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
