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


@pytest.fixture
def start_busy():
    """Function that starts a process whose main thread is in C code, as during a step: no Python handler can run."""
    started = []

    def start(has_steps):
        code = (
            "import hashlib; from nvae_tf.runs.interruption import Interruption\n"
            "with Interruption() as interruption:\n"
            f"    interruption.started = {has_steps}\n"
            "    print('busy', flush=True)\n"
            "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([sys.executable, "-c", code], text=True, **pipes))
        assert started[-1].stdout.readline() == "busy\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_signals_end_a_process_whose_main_thread_is_busy(start_busy):
    before, during = start_busy(False), start_busy(True)
    before.send_signal(signal.SIGINT)  # one is enough before the first step
    assert before.wait(timeout=20) == 75
    assert before.stderr.read() == "SIGINT: stopped before the first step\n"
    time.sleep(0.2)
    during.send_signal(signal.SIGTERM)
    assert "SIGTERM: the run stops" in during.stderr.readline()
    during.send_signal(signal.SIGTERM)
    assert during.wait(timeout=20) == 128 + signal.SIGTERM
