import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time

import pytest

from nvae_tf.training import cluster as cluster_module
from nvae_tf.training import rendezvous
from nvae_tf.training.cluster import Cluster, ClusterError, resolve_cluster

TIMEOUT = 10.0  # of what is expected to succeed


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(rendezvous, "_GRACE_SECONDS", 0.6)
    monkeypatch.setattr(rendezvous, "_MAX_PAUSE_SECONDS", 0.1)


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    # One object, whichever module it is reached through.
    monkeypatch.setattr(cluster_module.logging, "warning", lambda text, *values: texts.append(text % values))
    return texts


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def start(port):
    """Function that starts a worker in a thread and returns the future of its cluster."""
    with concurrent.futures.ThreadPoolExecutor(8) as threads:

        def run(index, num_workers, timeout=TIMEOUT, host="127.0.0.1"):
            return threads.submit(resolve_cluster, {}, f"{host}:{port}", num_workers, index, timeout)

        yield run


def _connect(port):
    """Connection to worker 0, once it listens."""
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        time.sleep(0.01)
    raise TimeoutError(f"nobody listens at port {port}")


def _hello(**fields):
    return json.dumps({"index": 1, "num_workers": 2, "address": "127.0.0.1:9"} | fields).encode() + b"\n"


def _check_meeting(futures, host="127.0.0.1"):
    """Checks the clusters of workers, in the order of their index."""
    clusters = [future.result(TIMEOUT) for future in futures]
    workers = clusters[0].workers
    assert [cluster.index for cluster in clusters] == list(range(len(futures)))
    assert [cluster.is_chief for cluster in clusters] == [True] + [False] * (len(futures) - 1)
    assert all(cluster.workers == workers and cluster.num_workers == len(futures) for cluster in clusters)
    assert isinstance(workers, tuple) and len(set(workers)) == len(futures)
    with contextlib.ExitStack() as stack:  # all ports are free, and differ
        for address in workers:
            prefix, _, port = address.rpartition(":")
            assert prefix == host
            stack.enter_context(socket.socket()).bind(("", int(port)))


def test_module_leaves_tensorflow_alone():
    code = "import sys, nvae_tf.training.cluster; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("order", [*itertools.permutations(range(2)), *itertools.permutations(range(3))])
def test_workers_meet_in_any_order(start, order):
    futures = {}
    for index in order:
        futures[index] = start(index, len(order))
        time.sleep(0.1)
    _check_meeting([futures[index] for index in range(len(order))])


def test_rendezvous_port_is_free_afterwards(start, port):
    _check_meeting([start(0, 2), start(1, 2)])
    socket.create_server(("127.0.0.1", port)).close()


def test_one_worker_needs_no_network(port):
    cluster = resolve_cluster({}, "nowhere.invalid:1", 1, 0, timeout=0.1)
    assert cluster.index == 0 and cluster.num_workers == 1
    assert cluster.workers[0].startswith("nowhere.invalid:") and cluster.workers[0] != "nowhere.invalid:1"


def test_workers_meet_over_ipv6(start):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    _check_meeting([start(index, 2, host="[::1]") for index in range(2)], "[::1]")


def test_name_of_the_coordinator_stands_for_loopback(start, monkeypatch):
    # As on Debian, where a machine's own name is 127.0.1.1 to itself: others would not find it there.
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.1.1" if host == "node1" else host, *rest, **more)
    )
    _check_meeting([start(index, 3, host="node1") for index in range(3)], "node1")


def test_name_is_listened_at_on_every_interface():
    with rendezvous._listen("node1", 0) as named, rendezvous._listen("127.0.0.1", 0) as literal:
        assert named.getsockname()[0] in ("::", "0.0.0.0")
        assert literal.getsockname()[0] == "127.0.0.1"


def test_own_port_is_kept_until_all_have_come(start, port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        future = start(1, 2)
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as reader:
            hello = json.loads(reader.readline())
            assert hello["index"] == 1 and hello["num_workers"] == 2
            own_port = int(hello["address"].removeprefix("127.0.0.1:"))
            with pytest.raises(OSError), socket.socket() as other:
                other.bind(("", own_port))
            connection.sendall(b'{"workers": ["a:1", "b:2"]}\n')
            assert future.result(TIMEOUT) == Cluster(("a:1", "b:2"), 1)
    with socket.socket() as other:
        other.bind(("", own_port))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a:1", None, None), "--coordinator: expected --num_workers and --worker_index too"),
        ((None, 2, 0), "--num_workers, --worker_index: expected --coordinator too"),
        (("a:1", 2, None), "--coordinator, --num_workers: expected --worker_index too"),
        ((None, None, 0), "--worker_index: expected --coordinator and --num_workers too"),
        (("a:1", 2, 2), r"--worker_index: expected 0 to 1 .*Received: 2"),
        (("a:1", 2, -1), r"--worker_index: expected 0 to 1 .*Received: -1"),
        (("a:1", 0, 0), "--num_workers: expected at least 1. Received: 0"),
        *(
            ((address, 2, 0), "--coordinator: expected HOST:PORT")
            for address in ("", "a", "a:", ":1", "a:b", "a:0", "a:65536", "::1:80", "[::1]", "[a]:1", "http://a:1")
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ClusterError, match=message):
        resolve_cluster({}, *arguments, timeout=0.1)


def test_port_in_use(port):
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ClusterError, match=f"--coordinator: expected a free port .*127.0.0.1:{port}"),
    ):
        resolve_cluster({}, f"127.0.0.1:{port}", 2, 0, timeout=0.1)


def _check_all_told(futures, message):
    for future in futures:
        with pytest.raises(ClusterError, match=message):
            future.result(TIMEOUT)


def test_other_number_of_workers_is_told_to_all(start):
    futures = [start(0, 3), start(2, 4)]
    time.sleep(0.3)  # worker 1 comes after the mistake
    started = time.monotonic()
    futures.append(start(1, 3))
    _check_all_told(futures, "--num_workers: expected the same .*Received: 3 by worker 0, 4 by worker 2")
    assert time.monotonic() - started < TIMEOUT / 2


def test_index_used_twice_is_told_to_all(start):
    futures = [start(0, 4), *(start(1, 4) for _ in range(3))]
    time.sleep(0.3)  # worker 2 comes after the mistake
    futures.append(start(2, 4))
    _check_all_told(futures, "--worker_index: expected each index once. Received: 1 by two workers")


def test_absent_workers_are_named_to_all(start):
    futures = [start(0, 4, timeout=0.5), start(2, 4, timeout=0.5)]
    _check_all_told(futures, "expected 4 workers within 0.5 s. Received: none of --worker_index 1, 3")


def test_absent_coordinator_is_named(port):
    with pytest.raises(
        ClusterError, match=f"--coordinator: expected .*within 0.3 s. Received: 127.0.0.1:{port}: .*ref"
    ):
        resolve_cluster({}, f"127.0.0.1:{port}", 2, 1, timeout=0.3)


def test_silent_coordinator_is_named(port):
    started = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ClusterError, match=f"within 0.3 s. Received: 127.0.0.1:{port}: timed out"),
    ):
        resolve_cluster({}, f"127.0.0.1:{port}", 2, 1, timeout=0.3)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", b"[]\n", b"{}\n"])
def test_other_service_at_the_coordinators_address(start, port, answer):
    with socket.create_server(("127.0.0.1", port)) as listener:
        future = start(1, 2)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(answer)
            with pytest.raises(ClusterError, match="--coordinator: expected the answer of worker 0. Received: b"):
                future.result(TIMEOUT)


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"[" * 1020 + b"\n",
        b"x" * 100_000,
        b"[]\n",
        b"{}\n",
        _hello(index=0),
        _hello(index=2),
        _hello(index=True),
        _hello(num_workers="2"),
        _hello(address="nowhere"),
        _hello(address=None),
    ],
)
def test_stranger_is_ignored(start, port, warnings, message):
    chief = start(0, 2)
    with _connect(port) as stranger:
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            stranger.sendall(message)
            assert stranger.recv(100) == b""
        assert time.monotonic() - started < rendezvous._HELLO_SECONDS / 2
        _check_meeting([chief, start(1, 2)])
    assert len(warnings) == 1 and warnings[0].startswith("--coordinator: ignored a connection from ('127.0.0.1',")


def test_silent_strangers_hold_nobody_up(start, port, warnings):
    chief = start(0, 2)
    with _connect(port), _connect(port) as gone:
        gone.close()
        started = time.monotonic()
        _check_meeting([chief, start(1, 2)])
        assert time.monotonic() - started < rendezvous._HELLO_SECONDS / 2


def test_silent_stranger_is_sent_away(start, port, warnings, monkeypatch):
    monkeypatch.setattr(rendezvous, "_HELLO_SECONDS", 0.2)
    chief = start(0, 2)
    with _connect(port) as stranger:
        assert stranger.recv(100) == b""
    assert not chief.done() and len(warnings) == 1
    _check_meeting([chief, start(1, 2)])


def test_worker_that_went_away_may_come_again(start, port):
    chief = start(0, 3)
    with _connect(port) as first:
        first.sendall(_hello(num_workers=3))
        time.sleep(0.2)
    time.sleep(0.2)
    _check_meeting([chief, start(1, 3), start(2, 3)])


def test_lost_connection_is_tried_again(start, port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        future = start(1, 2)
        listener.accept()[0].close()
    _check_meeting([start(0, 2), future])


def test_all_have_come_already(port):
    # The connection of a third worker, which worker 0 takes up between the last worker's and its replies.
    async def run():
        meeting = rendezvous._Meeting("a:1", 2)
        meeting._admit(1, 2, "b:2")
        reader = asyncio.StreamReader()
        reader.feed_data(_hello())
        await meeting.welcome(reader, writer)
        return meeting

    class Writer:
        closed = False

        def close(self):
            self.closed = True

        def get_extra_info(self, name):
            return "third"

    writer = Writer()
    meeting = asyncio.run(run())
    assert meeting.workers.result() == ["a:1", "b:2"]
    assert writer.closed and not meeting.writers


WORKERS = ["a:1", "b:2"]


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
    assert resolve_cluster({"TF_CONFIG": "{}"}, "a:1", 1, 0).num_workers == 1
