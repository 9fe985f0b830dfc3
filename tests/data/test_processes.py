"""Work in several processes."""

import os
import signal

import numpy as np
import pytest

from nvae_tf.data.processes import map_in_processes


def _row_sum(array, index):
    return int(array[index].sum())


def _die(shared, task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order():
    array = np.arange(400).reshape(40, -1)
    assert list(map_in_processes(_row_sum, array, range(40), 2)) == array.sum(1).tolist()


def test_a_process_that_is_killed_is_an_error():
    with pytest.raises(ChildProcessError, match="expected 2 processes. Received: one that ended"):
        list(map_in_processes(_die, None, range(4), 2))
