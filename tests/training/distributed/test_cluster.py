import json
import subprocess
import sys

import pytest
from absl import logging

from nvae_tf.training.distributed.cluster import Cluster, ClusterError, resolve_cluster

WORKERS = ["a:1", "b:2"]


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: texts.append(text % values))
    return texts


def test_module_leaves_tensorflow_alone():
    code = "import sys, nvae_tf.training.distributed.cluster; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def _tf_config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "text, expected",
    [
        (_tf_config({"worker": WORKERS}), Cluster(("a:1", "b:2"), 0)),
        (_tf_config({"worker": WORKERS}, index=1), Cluster(("a:1", "b:2"), 1)),
        (_tf_config({"worker": WORKERS, "chief": ["c:3"]}, "chief"), Cluster(("c:3", "a:1", "b:2"), 0)),
        (_tf_config({"worker": WORKERS, "chief": ["c:3"]}, index=1), Cluster(("c:3", "a:1", "b:2"), 2)),
        (_tf_config({"chief": ["[::1]:3"]}, "chief"), Cluster(("[::1]:3",), 0)),
        (_tf_config({}), None),
        ('{"task": {"type": "worker", "index": 0}}', None),
        ("{}", None),
        (" ", None),
        ("", None),
    ],
)
def test_tf_config(text, expected):
    assert resolve_cluster({"TF_CONFIG": text}) == expected


def test_tf_config_is_read_back():
    cluster = Cluster(("a:1", "[::1]:2", "c:3"), 2)
    assert json.loads(cluster.tf_config()) == {
        "cluster": {"worker": ["a:1", "[::1]:2", "c:3"]},
        "task": {"type": "worker", "index": 2},
    }
    assert resolve_cluster({"TF_CONFIG": cluster.tf_config()}) == cluster


@pytest.mark.parametrize(
    "text, message",
    [
        ("worker", "expected JSON"),
        ('["a:1"]', "expected JSON"),
        (_tf_config(["a:1"]), "expected JSON"),
        ('{"cluster": {"worker": ["a:1"]}, "task": 3}', "expected JSON"),
        (_tf_config({"worker": 3}), "expected JSON"),
        (_tf_config({"worker": ["a"]}), "expected HOST:PORT.*'a'"),
        (_tf_config({"worker": {"1": "a:1"}}), "expected HOST:PORT.*'1'"),
        (_tf_config({"worker": [7]}), "expected HOST:PORT.*7"),
        (_tf_config({"worker": []}), "expected workers"),
        (_tf_config({"worker": ["a:1", "a:1"]}), "each address once"),
        (_tf_config({"chief": WORKERS}, "chief"), "at most one chief"),
        (_tf_config({"worker": WORKERS, "ps": ["p:1"]}), "chief and worker alone in cluster. Received: ps"),
        (_tf_config({"worker": WORKERS}, "ps"), "task of type chief or worker. Received: 'ps'"),
        (_tf_config({"worker": WORKERS}, "evaluator"), "task of type chief or worker. Received: 'evaluator'"),
        ('{"cluster": {"worker": ["a:1"]}}', "task of type chief or worker. Received: None"),
        (_tf_config({"worker": WORKERS}, "chief"), "one of 0 tasks of type chief. Received: 0"),
        (_tf_config({"worker": WORKERS}, index=2), "one of 2 tasks of type worker. Received: 2"),
        (_tf_config({"worker": WORKERS}, index=-1), "one of 2 tasks of type worker. Received: -1"),
        (_tf_config({"worker": WORKERS}, index="1"), "one of 2 tasks of type worker. Received: '1'"),
        (_tf_config({"worker": WORKERS}, index=None), "one of 2 tasks of type worker. Received: None"),
    ],
)
def test_tf_config_that_does_not_fit(text, message):
    with pytest.raises(ClusterError, match=f"TF_CONFIG: .*{message}"):
        resolve_cluster({"TF_CONFIG": text})


def _slurm(node="node01", local_index=0, **others):
    """Environment of a task of `srun --nodes=2 --ntasks-per-node=2`."""
    return {
        "SLURM_JOB_ID": "1253",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": str(local_index),
        "SLURMD_NODENAME": node,
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NODELIST": "node[01-09]",
        "SLURM_STEP_NODELIST": "node[01-02]",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    } | others


def test_slurm():
    tasks = [("node01", 0), ("node01", 1), ("node02", 0), ("node02", 1)]
    clusters = [resolve_cluster(_slurm(*task)) for task in tasks]
    workers = ("node01:10048", "node01:10049", "node02:10048", "node02:10049")
    assert clusters == [Cluster(workers, index) for index in range(4)]


def test_slurm_nodes_keep_their_order_and_their_tasks():
    others = {"SLURM_STEP_NODELIST": "node[9-10]", "SLURM_STEP_TASKS_PER_NODE": "1,3", "SLURM_JOB_ID": "1"}
    expected = ("node9:10016", "node10:10016", "node10:10017", "node10:10018")
    assert resolve_cluster(_slurm("node9", 0, **others)) == Cluster(expected, 0)
    assert resolve_cluster(_slurm("node10", 2, **others)) == Cluster(expected, 3)


def test_slurm_jobs_of_one_node_do_not_meet():
    jobs = [resolve_cluster(_slurm(SLURM_JOB_ID=str(job))) for job in (1249, 1250, 1251, 123456789)]
    addresses = [address for job in jobs for address in job.workers]
    assert len(set(addresses)) == len(addresses)
    assert all(10000 <= int(address.rpartition(":")[2]) < 32768 for address in addresses)


@pytest.mark.parametrize(
    "environment, warned",
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "node[01-02]"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "node01"}, False),
        (_slurm(SLURM_STEP_NUM_TASKS="1"), False),
    ],
)
def test_no_slurm_step_of_several_tasks(environment, warned, warnings):
    assert resolve_cluster(environment) is None
    assert len(warnings) == warned


@pytest.mark.parametrize(
    "others, message",
    [
        ({"SLURM_STEP_NODELIST": "rack[0-1]node[1-2]"}, "rack"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, "SLURM: expected the variables that srun sets"),
        ({"SLURM_STEP_TASKS_PER_NODE": "two"}, "two"),
        ({"SLURM_JOB_ID": "x"}, "SLURM: expected the variables that srun sets.*x"),
        ({"SLURM_LOCALID": "2"}, "SLURM: expected one of the step's tasks .*'node02': 2.*Received: task 2 of 'node01'"),
        ({"SLURMD_NODENAME": "node3"}, "Received: task 0 of 'node3'"),
    ],
)
def test_slurm_that_does_not_fit(others, message):
    with pytest.raises(ClusterError, match=message):
        resolve_cluster(_slurm() | others)


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_LOCALID", "SLURMD_NODENAME", "SLURM_STEP_NODELIST"])
def test_slurm_variable_that_is_missing(name):
    environment = _slurm()
    del environment[name]
    with pytest.raises(ClusterError, match=f"SLURM: expected the variables that srun sets. Received: .*{name}"):
        resolve_cluster(environment)


@pytest.mark.parametrize(
    "gpus, on_node, expected",
    [
        ("", None, None),
        ("abcd", "4", "cd"),
        ("abc", "3", "b"),
        ("abcd", None, "cd"),  # SLURM does not manage GPUs here
        ("ab", "4", None),  # each task sees its own
        ("a", "2", None),
        ("a", "1", None),
    ],
)
def test_slurm_tasks_divide_the_gpus_of_their_node(gpus, on_node, expected, monkeypatch):
    import tensorflow as tf

    chosen = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus) if kind == "GPU" else ["cpu"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: chosen.append((kind, devices)))
    others = {} if on_node is None else {"SLURM_GPUS_ON_NODE": on_node}
    resolve_cluster(_slurm("node02", 1, **others))
    assert chosen == ([] if expected is None else [("GPU", list(expected))])


def test_tf_config_goes_before_slurm():
    text = _tf_config({"worker": WORKERS}, index=1)
    assert resolve_cluster(_slurm(TF_CONFIG=text)) == Cluster(("a:1", "b:2"), 1)
    assert resolve_cluster(_slurm(TF_CONFIG="{}")).workers[0] == "node01:10048"


def test_arguments_go_before_slurm():
    assert resolve_cluster(_slurm(), "a:1", 1, 0).workers[0].startswith("a:")


def test_arguments_beside_tf_config_are_refused():
    with pytest.raises(ClusterError, match="--coordinator: expected no TF_CONFIG beside it.*unset one.*'a:1'.*b:2"):
        resolve_cluster({"TF_CONFIG": _tf_config({"worker": WORKERS})}, "a:1", 1, 0)
    # An empty one, as some platforms set for single machines, names no workers.
    assert resolve_cluster({"TF_CONFIG": "{}"}, "a:1", 1, 0).index == 0
