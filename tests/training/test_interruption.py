import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from nvae_tf.training.interruption import Interruption
from nvae_tf.training.watchdog import Watchdog


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_former_handlers_come_back(number, capsys):
    former = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(number) is former
    assert f"{number.name}: the run stops after this step" in capsys.readouterr().err


def test_the_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal, time; from nvae_tf.training.interruption import Interruption\n"
        "with Interruption():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=50).returncode == -signal.SIGTERM


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
