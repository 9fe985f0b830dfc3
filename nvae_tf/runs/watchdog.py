"""Says so when a run stands still."""

import sys
import threading
import time
import traceback

from absl import logging


class Watchdog:
    """Context in which a thread logs when no step has finished for a long time: the step, and where it waits.

    Args:
        trainer: `Trainer`.
        seconds: how long is long; 0 for no watch.
        worker: name of this worker for the log. Default "this process".
    """

    def __init__(self, trainer, seconds, worker="this process"):
        self._trainer = trainer
        self._seconds = seconds
        self._worker = worker
        self._over = threading.Event()
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self):
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *unused):
        self._over.set()

    def _watch(self):
        step, since = self._trainer.step, time.monotonic()
        while not self._over.wait(min(self._seconds / 4, 10.0)):
            now = time.monotonic()
            if self._trainer.step != step:
                step, since = self._trainer.step, now
            elif now - since >= self._seconds:
                logging.warning("%s", self._message(now))
                since = now

    def _message(self, now):
        trainer = self._trainer
        hint = ""
        if trainer.num_workers > 1 and trainer.doing.startswith("step"):
            hint = "; a step needs every worker, so look for one that logs something else, or nothing"
        stack = "".join(traceback.format_stack(sys._current_frames()[self._main], limit=12))
        return (
            f"no step has finished for {self._seconds:.0f} s or more: {self._worker} has done {trainer.step} of "
            f"{trainer.last_step} steps and for {now - trainer.since:.0f} s has been at: {trainer.doing}{hint}\n{stack}"
        )
