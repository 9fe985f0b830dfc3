"""Workers meet at worker 0, whose address is all that everybody knows.

Worker 0 listens, the others connect. A worker's message and the reply are one line of JSON each.
"""

import asyncio
import contextlib
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


class ClusterError(ValueError):
    """Workers that cannot be brought together; the message names the flag or variable and what is wrong."""


def split_address(address, name):
    """Host, without brackets, and port of "host:port"; `name` says in errors where the address comes from."""
    pattern = r"(\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})"
    match = re.fullmatch(pattern, address) if isinstance(address, str) else None
    if not match or not 0 < int(match[2]) < 65536:
        raise ClusterError(f"{name}: expected HOST:PORT or [IPV6]:PORT. Received: {address!r}")
    return match[1].strip("[]"), int(match[2])


def _join(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def meet(coordinator, num_workers, index, timeout):
    """Addresses of all workers, in the order of their index, when all have come.

    Args:
        coordinator: `"HOST:PORT"` of worker 0.
        num_workers: how many will come.
        index: of this worker.
        timeout: seconds to wait for the others.

    Raises:
        ClusterError: arguments that do not fit, also those of one worker to another's, or workers that have not come.
    """
    host, port = split_address(coordinator, "--coordinator")
    if num_workers < 1:
        raise ClusterError(f"--num_workers: expected at least 1. Received: {num_workers}")
    if not 0 <= index < num_workers:
        raise ClusterError(f"--worker_index: expected 0 to {num_workers - 1} (--num_workers - 1). Received: {index}")
    if index:
        return tuple(_ask(host, port, num_workers, index, timeout))
    with _reserve_port() as reserved:
        address = _join(host, reserved.getsockname()[1])
        if num_workers == 1:
            return (address,)
        workers = asyncio.run(_gather(_listen(host, port), address, num_workers, timeout))
    return tuple(workers)


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
    split_address(address, "address")
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
