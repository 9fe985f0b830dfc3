"""Work in several processes."""

import os
import signal

import numpy as np
import pytest

from nvae_tf.data.parallel import WorkerLostError, map_in_order

_values = None


def _take(*values):
    global _values
    _values = values


def _row_sum(index):
    array, empty, text = _values
    return int(array[index].sum()) + len(empty), text, array.flags.writeable


def _die(index):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_arrays_are_mapped():
    array = np.arange(400_000).reshape(40, -1)
    results = list(map_in_order(_row_sum, range(40), 2, _take, (array, np.zeros(0), "text")))
    assert results == [(int(row.sum()), "text", False) for row in array]


@pytest.mark.parametrize("initializer, arguments", [(None, ()), (_die, (np.zeros(1_000_000),))])
def test_a_process_that_is_killed_is_an_error(initializer, arguments):
    with pytest.raises(WorkerLostError, match="expected 2 processes to read images. Received: one that ended"):
        list(map_in_order(_die, range(4), 2, initializer, arguments))
