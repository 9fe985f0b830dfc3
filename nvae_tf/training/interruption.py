"""Being asked to stop: by a person, a scheduler or a machine that is taken away."""

import os
import signal
import sys

# EX_TEMPFAIL of sysexits.h: the work is not done; the same command goes on with it.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Context in which the first SIGTERM or SIGINT is noted and the second ends the process at once.

    To be entered in the main thread.

    Attributes:
        requested: whether a signal has come.
    """

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self._former = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *unused):
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.requested:
            # As if nothing had been there to catch it: the exit status tells the signal.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.requested = True
        name = signal.Signals(number).name
        print(f"{name}: the run stops after this step and saves; once more stops at once", file=sys.stderr, flush=True)
