"""Signals that stop a run."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nvae_tf.runs.interruption import Interruption


def _wait(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_noted_and_former_handlers_are_restored(number, capsys):
    former = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.started = True
        assert not interruption.requested
        os.kill(os.getpid(), number)
        _wait(lambda: interruption.requested)
    assert signal.getsignal(number) is former
    assert f"{number.name}: the run stops after the current step" in capsys.readouterr().err


def _busy(started):
    """Process whose main thread is in C code, as during a step of TensorFlow, so that no Python handler can run."""
    code = (
        "import hashlib; from nvae_tf.runs.interruption import Interruption\n"
        "with Interruption() as interruption:\n"
        f"    interruption.started = {started}\n"
        "    print('busy', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


def test_one_signal_is_enough_before_the_first_step():
    process = _busy(started=False)
    try:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 75
        assert process.stderr.read() == "SIGINT: stopped before the first step\n"
    finally:
        process.kill()
        process.communicate()


def test_second_signal_ends_a_process_whose_main_thread_is_busy():
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
