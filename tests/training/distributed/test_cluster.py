"""Workers from flags, from TF_CONFIG and from SLURM."""

import json
import os

import pytest
import tensorflow as tf
from absl import logging

from nvae_tf.training.distributed.cluster import find_workers

WORKERS = ["a:1", "[::1]:2"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Hides the cluster of the machine that runs the tests, and restores everything afterwards."""
    for name in [*os.environ]:
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TF_CONFIG", "")


def _tf_config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def _found(*arguments):
    """(workers, index) as TensorFlow reads them afterwards."""
    workers = find_workers(*arguments)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert resolver.cluster_spec().as_dict() == {"worker": workers} and resolver.task_type == "worker"
    return workers, resolver.task_id


@pytest.mark.parametrize(
    "text, expected",
    [
        (_tf_config({"worker": WORKERS}, index=1), (WORKERS, 1)),
        (_tf_config({"worker": WORKERS, "chief": ["c:3"]}, "chief"), (["c:3", *WORKERS], 0)),
        (_tf_config({"worker": WORKERS, "chief": ["c:3"]}, index=1), (["c:3", *WORKERS], 2)),
    ],
)
def test_tf_config_is_read(monkeypatch, text, expected):
    monkeypatch.setenv("TF_CONFIG", text)
    assert _found() == expected


@pytest.mark.parametrize("text", ["", "{}", '{"task": {"type": "worker", "index": 0}}'])
def test_without_a_cluster_the_process_is_the_only_worker(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert find_workers() == []
    assert _found(WORKERS, 1) == (WORKERS, 1)  # a TF_CONFIG that names no workers is ignored


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((WORKERS, None), "--workers and --worker_index: expected both or neither"),
        ((WORKERS, 2), "--worker_index: expected an index from 0 to 1. Received: 2"),
        ((["a:1", "a:1"], 0), "--workers: expected each address once"),
        ((["a:70000"], 0), "--workers: expected HOST:PORT.*'a:70000'"),
        ((["http://a:1"], 0), "--workers: expected HOST:PORT"),
    ],
)
def test_wrong_flags_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_workers(*arguments)


@pytest.mark.parametrize(
    "text, message",
    [
        ("worker", "expected JSON"),
        (_tf_config({"worker": ["a"]}), "expected HOST:PORT.*'a'"),
        (_tf_config({"worker": ["a:1"]}, "evaluator"), "expected tasks of type chief and worker"),
        (_tf_config({"worker": WORKERS}, index=2), "expected an index from 0 to 1. Received: 2"),
    ],
)
def test_wrong_tf_config_is_named(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=f"TF_CONFIG: .*{message}"):
        find_workers()


def test_flags_together_with_tf_config_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", _tf_config({"worker": WORKERS}))
    with pytest.raises(ValueError, match="--workers: expected no TF_CONFIG.*Received: .*a:1"):
        find_workers(["c:1"], 0)


def _set_slurm(monkeypatch, node="node01", local_index=0, **others):
    """Environment of a task of `srun --nodes=2 --ntasks-per-node=2`."""
    variables = {
        "SLURM_JOB_ID": "1253",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": str(local_index),
        "SLURMD_NODENAME": node,
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NODELIST": "node[01-09]",
        "SLURM_STEP_NODELIST": "node[01-02]",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }
    monkeypatch.setenv("TF_CONFIG", "")
    for name, value in (variables | others).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)


def test_slurm_tasks_are_workers(monkeypatch):
    for index, task in enumerate([("node01", 0), ("node01", 1), ("node02", 0), ("node02", 1)]):
        _set_slurm(monkeypatch, *task)
        assert _found() == (["node01:10048", "node01:10049", "node02:10048", "node02:10049"], index)


def test_slurm_nodes_keep_their_tasks_in_any_order(monkeypatch):
    others = {"SLURM_STEP_NODELIST": "node[9-10]", "SLURM_STEP_TASKS_PER_NODE": "1,3", "SLURM_JOB_ID": "1"}
    expected = ["node10:10016", "node10:10017", "node10:10018", "node9:10016"]
    _set_slurm(monkeypatch, "node9", 0, **others)
    assert _found() == (expected, 3)
    _set_slurm(monkeypatch, "node10", 2, SLURM_PROCID="3", **others)
    assert _found() == (expected, 2)


@pytest.mark.parametrize("others, warned", [({"SLURM_STEP_NUM_TASKS": None}, 1), ({"SLURM_STEP_NUM_TASKS": "1"}, 0)])
def test_without_srun_or_with_one_task_slurm_starts_one_process(monkeypatch, others, warned):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warnings.append(text % values))
    _set_slurm(monkeypatch, **others)
    assert find_workers() == [] and len(warnings) == warned


@pytest.mark.parametrize(
    "others",
    [
        {"SLURM_STEP_NODELIST": "rack[0-1]node[1-2]"},
        {"SLURM_JOB_ID": None},
        {"SLURMD_NODENAME": "node3"},
    ],
)
def test_wrong_slurm_variables_are_refused(monkeypatch, others):
    _set_slurm(monkeypatch, **others)
    with pytest.raises(ValueError, match="SLURM: expected the variables that srun sets"):
        find_workers()


@pytest.mark.parametrize(
    "gpus, on_node, expected",
    [
        ("", None, None),
        ("abcd", "4", "cd"),
        ("abc", "3", "b"),
        ("abcd", None, "cd"),  # SLURM does not manage GPUs here
        ("ab", "4", None),  # each task sees its own
    ],
)
def test_slurm_tasks_divide_the_gpus_of_their_node(gpus, on_node, expected, monkeypatch):
    chosen = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus) if kind == "GPU" else ["cpu"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: chosen.append((kind, devices)))
    _set_slurm(monkeypatch, "node02", 1, SLURM_GPUS_ON_NODE=on_node)
    find_workers()
    assert chosen == ([] if expected is None else [("GPU", list(expected))])
