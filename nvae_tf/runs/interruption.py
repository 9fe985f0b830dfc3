"""Stopping on request: from a user, a scheduler, or a machine that is about to be reclaimed."""

import contextlib
import os
import signal
import socket
import sys
import threading

# EX_TEMPFAIL of sysexits.h: the work is not finished, and the same command resumes it.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """Work between steps was abandoned because the run was asked to stop."""


class Interruption:
    """Context manager that notes the first SIGTERM or SIGINT, and ends the process at once on the second.

    Python runs signal handlers in the main thread, which may be inside TensorFlow for minutes, or forever if another
    worker is gone. Therefore a separate thread reads the numbers of the signals from a socket, to which Python writes
    them immediately.

    Must be entered in the main thread.

    Attributes:
        requested: whether a signal has arrived.
        started: whether there is anything to finish; before that, the first signal ends the process with
            `EXIT_STATUS`. Default False.
    """

    def __init__(self):
        self.requested = self.started = False

    def __enter__(self):
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._former = {number: signal.getsignal(number) for number in _SIGNALS}
        self.listen()
        self._thread = threading.Thread(target=self._read, name="interruption", daemon=True)
        self._thread.start()
        return self

    def listen(self):
        """Installs the handlers; called again after TensorFlow has taken SIGTERM, as it does with several workers."""
        for number in _SIGNALS:
            # Python writes the number to the socket only if there is a handler, even one that does nothing.
            signal.signal(number, lambda *unused: None)

    def __exit__(self, *unused):
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._writer.close()  # ends the thread
        self._thread.join()
        self._reader.close()

    def _read(self):
        while numbers := self._reader.recv(64):
            for number in numbers:
                if number in _SIGNALS:
                    self._take(number)

    def _take(self, number):
        name = signal.Signals(number).name
        if self.requested:
            _say(f"{name} again: stopping at once")
            os._exit(128 + number)  # the status that a shell gives a process ended by a signal
        if not self.started:
            _say(f"{name}: stopped before the first step")
            os._exit(EXIT_STATUS)
        self.requested = True
        _say(f"{name}: the run stops after the current step and saves; a second signal stops it at once")


def _say(message):
    with contextlib.suppress(OSError):  # a terminal that is gone must not keep the process from stopping
        print(message, file=sys.stderr, flush=True)
