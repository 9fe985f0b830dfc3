"""How the worker processes of one training run learn of each other."""

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import re
import socket
import time

from absl import logging

_MAX_PAUSE_SECONDS = 1.0  # between two attempts to reach worker 0
_HELLO_SECONDS = 5.0  # a connection that has not introduced itself by then is a stranger's
_GRACE_SECONDS = 3.0  # after a mistake: longer than the pause, so that all who are trying to come hear of it
_MAX_HELLO_BYTES = 1024
_MAX_REPLY_BYTES = 1 << 20
_PORTS_PER_JOB = 16


class ClusterError(ValueError):
    """Workers that cannot be brought together; the message names the flag or variable and what is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Workers of one training run.

    Args:
        workers: tuple of addresses `"host:port"`, in the order of their index.
        index: which of them this process is.
    """

    workers: tuple
    index: int

    @property
    def num_workers(self):
        return len(self.workers)

    @property
    def is_chief(self):
        """Whether this process writes the run's files."""
        return self.index == 0

    def tf_config(self):
        """JSON text for the environment variable TF_CONFIG."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})


def resolve_cluster(environment, coordinator=None, num_workers=None, worker_index=None, timeout=300.0):
    """The workers of this training run, from the first of these that is there.

    1. The three arguments, which go together. Only worker 0's address needs to be known: it listens there until all
       have come and gives each the addresses of all. The ports that TensorFlow uses afterwards are free ones.
    2. TF_CONFIG, TensorFlow's own variable. A chief becomes worker 0.
    3. A SLURM step of several tasks, that is `srun`. Ports come from the job's id, so that jobs on one node do not
       meet: 16 for a job, and the same ones for the 1250th job after it. Two trainings at one time within one job
       need the arguments instead. The GPUs of a node are divided among its tasks, unless SLURM has done so.
    4. Otherwise this process trains alone.

    To be called once in a process, before anything else of TensorFlow.

    Args:
        environment: mapping of environment variables, such as `os.environ`; it is not changed.
        coordinator: `"HOST:PORT"` of worker 0 (`"[::1]:1234"` for IPv6), the same for all workers. Default None.
        num_workers: how many processes train together. Default None.
        worker_index: which of them this process is, 0 to `num_workers - 1`. Default None.
        timeout: seconds to wait for the others. Default 300.

    Returns:
        `Cluster`, or None for a process that trains alone.

    Raises:
        ClusterError: arguments or variables that do not fit, also those of one worker to another's, or workers
            that have not come in time. Each worker that has come is told what is wrong.
    """
    arguments = {"--coordinator": coordinator, "--num_workers": num_workers, "--worker_index": worker_index}
    missing = [flag for flag, value in arguments.items() if value is None]
    if missing and len(missing) < len(arguments):
        given = ", ".join(flag for flag in arguments if flag not in missing)
        raise ClusterError(f"{given}: expected {' and '.join(missing)} too. Received: no {' and no '.join(missing)}")
    cluster = _from_tf_config(environment.get("TF_CONFIG", ""))
    if missing:
        return cluster or _from_slurm(environment)
    if cluster:
        raise ClusterError(
            "--coordinator: expected no TF_CONFIG beside it, for both name the workers; unset one of them. "
            f"Received: {coordinator!r} and TF_CONFIG={environment['TF_CONFIG']}"
        )
    return _from_coordinator(coordinator, num_workers, worker_index, timeout)


def _split(address, name):
    """Host, without brackets, and port of "host:port"; `name` says in errors where the address comes from."""
    pattern = r"(\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})"
    match = re.fullmatch(pattern, address) if isinstance(address, str) else None
    if not match or not 0 < int(match[2]) < 65536:
        raise ClusterError(f"{name}: expected HOST:PORT or [IPV6]:PORT. Received: {address!r}")
    return match[1].strip("[]"), int(match[2])


def _join(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# 1. The arguments: worker 0 listens, the others connect. A worker's message and the reply are one line of JSON each.


def _from_coordinator(coordinator, num_workers, index, timeout):
    host, port = _split(coordinator, "--coordinator")
    if num_workers < 1:
        raise ClusterError(f"--num_workers: expected at least 1. Received: {num_workers}")
    if not 0 <= index < num_workers:
        raise ClusterError(f"--worker_index: expected 0 to {num_workers - 1} (--num_workers - 1). Received: {index}")
    if index:
        return Cluster(tuple(_ask(host, port, num_workers, index, timeout)), index)
    with _reserve_port() as reserved:
        address = _join(host, reserved.getsockname()[1])
        if num_workers == 1:
            return Cluster((address,), 0)
        workers = asyncio.run(_gather(_listen(host, port), address, num_workers, timeout))
    return Cluster(tuple(workers), 0)


def _reserve_port():
    """Socket bound to a free port. While it is open nobody else gets the port, so that workers of one machine differ.

    TensorFlow binds the port soon after the socket has been closed.
    """
    reserved = socket.socket()
    reserved.bind(("", 0))
    return reserved


def _listen(host, port):
    """Listening socket of worker 0.

    An address is listened at as it is given. For a name it is all interfaces: a machine's own name may mean another
    address to itself than to others (127.0.1.1 in Debian's /etc/hosts), and a service's name none of its own.
    """
    try:
        if host == "localhost" or re.fullmatch(r"[0-9.]+|.*:.*", host):
            return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        dual = socket.has_dualstack_ipv6()
        return socket.create_server(("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual)
    except OSError as error:
        expected = "expected a free port of this machine, where worker 0 listens"
        raise ClusterError(f"--coordinator: {expected}. Received: {_join(host, port)}: {error}") from error


class _Meeting:
    """Worker 0's view of who has come; made inside a running event loop.

    Attributes:
        workers: future of all addresses, or of the `ClusterError` that keeps the workers from meeting.
        missing: indices of those that have not come.
        writers: connections of those who wait for a reply.
    """

    def __init__(self, address, num_workers):
        self._addresses = {0: address}
        self._num_workers = num_workers
        self.writers = set()
        self.workers = asyncio.get_running_loop().create_future()

    @property
    def missing(self):
        return [index for index in range(self._num_workers) if index not in self._addresses]

    async def welcome(self, reader, writer):
        """Handles one connection."""
        with contextlib.closing(writer):
            try:
                line = await asyncio.wait_for(reader.readline(), _HELLO_SECONDS)
                index, num_workers, address = _parse_hello(line)
                if not self.missing:
                    raise ValueError("all workers have come already")
            except (OSError, ValueError, RecursionError) as error:  # a TimeoutError is an OSError
                peer = writer.get_extra_info("peername")
                logging.warning("--coordinator: ignored a connection from %s: %r", peer, error)
                return
            self.writers.add(writer)
            self._admit(index, num_workers, address)
            with contextlib.suppress(OSError):
                await reader.read(1)  # a worker says no more: this is the end of its connection
            # Its process may be started again before the others have come.
            self.writers.discard(writer)
            if self._addresses.get(index) == address:
                del self._addresses[index]

    def _admit(self, index, num_workers, address):
        if self.workers.done():
            return
        problem = None
        if num_workers != self._num_workers:
            received = f"{self._num_workers} by worker 0, {num_workers} by worker {index}"
            problem = f"--num_workers: expected the same for all workers. Received: {received}"
        elif index in self._addresses:
            problem = f"--worker_index: expected each index once. Received: {index} by two workers"
        if problem:
            self.workers.set_exception(ClusterError(problem))
            return
        self._addresses[index] = address
        if not self.missing:
            self.workers.set_result([self._addresses[index] for index in range(num_workers)])


def _parse_hello(line):
    """(index, num_workers, address) of a worker's message; ValueError for anything else."""
    hello = json.loads(line)
    if not isinstance(hello, dict):
        raise ValueError(f"expected a JSON object. Received: {line!r}")
    index, num_workers, address = (hello.get(key) for key in ("index", "num_workers", "address"))
    if type(index) is not int or type(num_workers) is not int or not 0 < index < num_workers:
        raise ValueError(f"expected the index and the number of workers. Received: {line!r}")
    _split(address, "address")
    return index, num_workers, address


async def _gather(listener, address, num_workers, timeout):
    """Worker 0's part: waits for the other workers, tells each the outcome, and returns the addresses of all."""
    meeting = _Meeting(address, num_workers)
    server = await asyncio.start_server(meeting.welcome, sock=listener, limit=_MAX_HELLO_BYTES, backlog=num_workers)
    try:
        outcome = {"workers": await asyncio.wait_for(meeting.workers, timeout)}
    except TimeoutError:
        missing = ", ".join(map(str, meeting.missing))
        outcome = {
            "error": f"--num_workers: expected {num_workers} workers within {timeout:g} s. "
            f"Received: none of --worker_index {missing}"
        }
    except ClusterError as error:
        outcome = {"error": str(error)}
        await asyncio.sleep(_GRACE_SECONDS)
    server.close()

    async def tell(writer):
        writer.write(json.dumps(outcome).encode() + b"\n")
        writer.close()
        await writer.wait_closed()

    told = (asyncio.wait_for(tell(writer), _HELLO_SECONDS) for writer in meeting.writers)
    await asyncio.gather(*told, return_exceptions=True)  # a worker that is gone by now must not keep the others
    if "error" in outcome:
        raise ClusterError(outcome["error"])
    return outcome["workers"]


def _ask(host, port, num_workers, index, timeout):
    """The other workers' part: the addresses of all from worker 0, which may start later than this worker."""
    deadline = time.monotonic() + timeout
    pause = 0.05
    while True:
        try:
            # A machine that is off does not answer at all, and may be on at the next attempt.
            attempt = max(0.1, min(10.0, deadline - time.monotonic()))
            with socket.create_connection((host, port), timeout=attempt) as connection:
                # A little longer than worker 0, which knows who is missing.
                connection.settimeout(max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS)
                return _introduce(connection, host, num_workers, index)
        except OSError as error:
            if time.monotonic() + pause >= deadline:
                address = _join(host, port)
                raise ClusterError(
                    f"--coordinator: expected the answer of worker 0 within {timeout:g} s. Received: {address}: {error}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE_SECONDS)


def _introduce(connection, coordinator_host, num_workers, index):
    local_host = connection.getsockname()[0]
    if connection.getsockname() == connection.getpeername():
        # A port of this machine where nobody listens yet can, rarely, be connected to itself.
        raise ConnectionRefusedError("nobody listens there")
    # Over loopback this is worker 0's machine: others know it by the coordinator's name, not as 127.0.0.1.
    own_host = coordinator_host if ipaddress.ip_address(local_host).is_loopback else local_host
    with _reserve_port() as reserved:
        address = _join(own_host, reserved.getsockname()[1])
        hello = {"index": index, "num_workers": num_workers, "address": address}
        connection.sendall(json.dumps(hello).encode() + b"\n")
        with connection.makefile("rb") as reader:
            line = reader.readline(_MAX_REPLY_BYTES)
    if not line:
        raise ConnectionResetError("it closed the connection")
    try:
        ((kind, value),) = json.loads(line).items()
    except (ValueError, AttributeError) as error:
        raise ClusterError(f"--coordinator: expected the answer of worker 0. Received: {line[:80]!r}") from error
    if kind == "error":
        raise ClusterError(value)
    return value


# 2. TF_CONFIG


def _from_tf_config(text):
    """`Cluster`, or None where the variable is empty or names no cluster."""
    try:
        config = json.loads(text.strip() or "{}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        chiefs, others = cluster.get("chief", []), cluster.get("worker", [])
        kind, index = task.get("type"), task.get("index")
        workers = (*chiefs, *others)
    except (ValueError, AttributeError, TypeError) as error:
        example = '{"cluster": {"worker": ["HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
        raise ClusterError(f"TF_CONFIG: expected JSON such as {example}. Received: {text}") from error
    if not cluster:
        return None
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        raise ClusterError(f"TF_CONFIG: expected chief and worker alone in cluster. Received: {', '.join(unknown)}")
    for address in workers:
        _split(address, "TF_CONFIG")
    if not workers or len(chiefs) > 1 or len(set(workers)) < len(workers):
        raise ClusterError(f"TF_CONFIG: expected workers, each address once, at most one chief. Received: {text}")
    if kind not in ("chief", "worker"):
        raise ClusterError(f"TF_CONFIG: expected a task of type chief or worker. Received: {kind!r}")
    count = len(cluster.get(kind, []))
    if type(index) is not int or not 0 <= index < count:
        raise ClusterError(f"TF_CONFIG: expected the index of one of {count} tasks of type {kind}. Received: {index!r}")
    return Cluster(workers, index + len(chiefs) * (kind == "worker"))


# 3. SLURM


def _from_slurm(environment):
    """`Cluster` of a step of several tasks, or None.

    Only the variables of a step count: a batch script has SLURM_PROCID and the job's nodes too, but what it starts
    without srun has no other tasks beside it to wait for.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment and environment.get("SLURM_NTASKS", "1") != "1":
        logging.warning("SLURM: a job of %s tasks, but started without srun: one process", environment["SLURM_NTASKS"])
    if "SLURM_PROCID" not in environment or environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return None
    # The helpers of TensorFlow's SlurmClusterResolver, not the class: it sorts the hosts (node10 before node9) but
    # takes the rank as it is, takes "block" for the tasks' distribution, and fails where there are no GPUs.
    from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
        expand_hostlist,
        expand_tasks_per_node,
    )

    try:
        # Below 32768, where Linux begins to hand out ports itself.
        base = 10000 + int(environment["SLURM_JOB_ID"]) % 1250 * _PORTS_PER_JOB
        hosts = expand_hostlist(environment["SLURM_STEP_NODELIST"])
        counts = expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        tasks = dict(zip(hosts, counts, strict=True))
        host, local_index = environment["SLURMD_NODENAME"], int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise ClusterError(f"SLURM: expected the variables that srun sets. Received: {error!r}") from error
    if not 0 <= local_index < tasks.get(host, 0):
        raise ClusterError(f"SLURM: expected one of the step's tasks {tasks}. Received: task {local_index} of {host!r}")
    workers = tuple(f"{node}:{base + task}" for node, count in tasks.items() for task in range(count))
    _take_own_gpus(local_index, tasks[host], int(environment.get("SLURM_GPUS_ON_NODE", 0)))
    return Cluster(workers, workers.index(f"{host}:{base + local_index}"))


def _take_own_gpus(index, num_tasks, num_gpus_on_node):
    """Leaves TensorFlow this task's share of the GPUs that all tasks of its node see."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < max(num_tasks, num_gpus_on_node):
        return  # none, too few to divide, or SLURM has given each task its own
    share = len(gpus) // num_tasks
    tf.config.set_visible_devices(gpus[index * share : (index + 1) * share], "GPU")
