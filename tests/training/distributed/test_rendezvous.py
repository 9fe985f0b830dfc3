import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import socket
import time

import pytest
from absl import logging

from nvae_tf.training.distributed import rendezvous
from nvae_tf.training.distributed.cluster import Cluster, ClusterError, resolve_cluster

TIMEOUT = 10.0  # of what is expected to succeed


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(rendezvous, "_GRACE_SECONDS", 0.6)
    monkeypatch.setattr(rendezvous, "_MAX_PAUSE_SECONDS", 0.1)


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: texts.append(text % values))
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
    assert all(cluster.workers == workers and len(workers) == len(futures) for cluster in clusters)
    assert isinstance(workers, tuple) and len(set(workers)) == len(futures)
    with contextlib.ExitStack() as stack:  # all ports are free, and differ
        for address in workers:
            prefix, _, port = address.rpartition(":")
            assert prefix == host
            stack.enter_context(socket.socket()).bind(("", int(port)))


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
    assert cluster.index == 0 and len(cluster.workers) == 1
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
