import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from nvae_tf.runs.interruption import Interruption
from nvae_tf.runs.watchdog import Watchdog


def _wait(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_former_handlers_come_back(number, capsys):
    former = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.started = True
        assert not interruption.requested
        os.kill(os.getpid(), number)
        _wait(lambda: interruption.requested)
    assert signal.getsignal(number) is former
    assert f"{number.name}: the run stops after the step" in capsys.readouterr().err


def _busy(started):
    """A process whose main thread is in C code, as in a step of TensorFlow: no handler of Python's gets its turn."""
    code = (
        "import hashlib; from nvae_tf.runs.interruption import Interruption\n"
        "with Interruption() as interruption:\n"
        f"    interruption.started = {started}\n"
        "    print('busy', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


def test_before_the_first_step_one_signal_is_enough():
    process = _busy(started=False)
    try:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 75
        assert process.stderr.read() == "SIGINT: stopped before the first step\n"
    finally:
        process.kill()
        process.communicate()


def test_the_second_signal_ends_a_process_whose_main_thread_is_busy_elsewhere():
    process = _busy(started=True)
    try:
        assert process.stdout.readline() == "busy\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM: the run stops" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def _trainer(**fields):
    return types.SimpleNamespace(
        **{"step": 3, "last_step": 9, "num_workers": 2, "doing": "step 4", "since": time.monotonic(), **fields}
    )


def _watch(caplog, trainer, seconds, wait):
    with Watchdog(trainer, seconds, "worker 1 of 2"):
        wait()
    return [record.getMessage() for record in caplog.records]


def test_the_watchdog_says_where_a_run_stands_still(caplog):
    def wait():
        time.sleep(0.5)

    messages = _watch(caplog, _trainer(), 0.1, wait)
    assert messages
    assert "worker 1 of 2 has done 3 of 9 steps" in messages[0] and "at: step 4; a step needs every" in messages[0]
    # The stack of the thread that trains.
    assert "in wait" in messages[0] and "time.sleep" in messages[0]


def test_the_watchdog_is_silent_while_steps_are_done(caplog):
    trainer = _trainer()

    def work():
        for trainer.step in range(12):
            time.sleep(0.05)

    assert not _watch(caplog, trainer, 0.4, work)
    assert not _watch(caplog, trainer, 0.0, lambda: time.sleep(0.2))
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog" and not thread.daemon]
