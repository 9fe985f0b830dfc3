"""Being asked to stop: by a person, a scheduler or a machine that is taken away."""

import contextlib
import os
import signal
import socket
import sys
import threading

# EX_TEMPFAIL of sysexits.h: the work is not done; the same command goes on with it.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Context in which the first SIGTERM or SIGINT is noted and the second ends the process at once.

    Python's handlers run in the main thread, which may be inside TensorFlow for minutes, or for ever where another
    worker is gone. A thread of its own reads the signals' numbers from the socket that Python writes them to at once.

    To be entered in the main thread.

    Attributes:
        requested: whether a signal has come.
        started: whether there is anything to finish; until then the first signal already ends the process, with
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
        """Takes the signals, again where others have: TensorFlow takes SIGTERM when several workers come together."""
        for number in _SIGNALS:
            # Without a handler of Python's, though it does nothing, the number is not written to the socket.
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
            with contextlib.suppress(OSError):
                print(f"{name} again: stopping at once", file=sys.stderr, flush=True)
            os._exit(128 + number)  # what a shell makes of a process that a signal ended
        if not self.started:
            with contextlib.suppress(OSError):
                print(f"{name}: stopped before the first step", file=sys.stderr, flush=True)
            os._exit(EXIT_STATUS)
        self.requested = True
        with contextlib.suppress(OSError):
            message = f"{name}: the run stops after the step it is at and saves; once more stops at once"
            print(message, file=sys.stderr, flush=True)
