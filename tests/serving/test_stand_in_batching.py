"""The batcher of the stand-in merges rows as `tensorflow_serving/batching/batching_util.h` does."""

import concurrent.futures
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.stand_in_batching import Batcher, BatchingParameters


class Model:
    """Doubles its rows and records the batches that it ran; values below 0 fail, and 100 waits until it is released."""

    def __init__(self, timeout_micros):
        self.batches = []
        self.running, self.let_go = threading.Semaphore(0), threading.Event()
        parameters = BatchingParameters(4, timeout_micros, 2, 2, (1, 4))
        self.call = Batcher(parameters, {"double": self._run}, "{}_{}:0".format)

    def _run(self, inputs):
        x = inputs["x"]
        self.batches.append(x.tolist())
        if x.min() < 0:
            raise tf.errors.InvalidArgumentError(None, None, "x: expected none below 0")
        if x.max() == 100:
            self.running.release()
            self.let_go.wait(30)
        return {"doubled": x * 2}

    def ask(self, rows):
        """The answer, or the name of the error."""
        try:
            return self.call("double", {"x": np.array(rows)})["doubled"].tolist()
        except tf.errors.OpError as error:
            self.message = error.message
            return type(error).__name__

    def ask_at_once(self, *requests):
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(self.ask, requests))


@pytest.fixture
def start():
    """Function that makes a `Model` that waits for a full batch for some microseconds."""
    models = []

    def make(timeout_micros):
        models.append(Model(timeout_micros))
        return models[-1]

    yield make
    for model in models:
        model.let_go.set()
        model.call.close()


def test_rows_of_several_requests_run_and_fail_as_one_batch(start):
    patient = start(60_000_000)
    assert patient.ask_at_once([1], [2, 3], [4]) == [[2], [4, 6], [8]]
    assert [sorted(batch) for batch in patient.batches] == [[1, 2, 3, 4]]
    assert patient.ask_at_once([1], [-1], [2, 3]) == ["InvalidArgumentError"] * 3
    assert patient.ask([1, 2, 3, 4]) == [2, 4, 6, 8]


def test_a_request_of_another_kind_fails_the_batch_for_all(start):
    model = start(60_000_000)
    assert model.ask_at_once([1], [[5], [6]], [2]) == ["FailedPreconditionError"] * 3
    assert "'double_x:0' from different tasks have different shapes and padding is turned off" in model.message
    assert model.ask_at_once([1], [0.5, 6.0], [2]) == ["InternalError"] * 3
    assert not model.batches


def test_pads_to_an_allowed_size_by_repeating_a_row(start):
    model = start(0)
    assert [model.ask([7, 8]), model.ask([7])] == [[14, 16], [14]]
    assert model.batches == [[7, 8, 7, 7], [7]]


def test_batches_run_side_by_side_and_a_full_queue_is_unavailable(start):
    model = start(50_000)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        held = [pool.submit(model.ask, [100] * 4) for _ in range(2)]
        # Both run at once: neither has been released.
        for _ in held:
            assert model.running.acquire(timeout=30)
        queued = [pool.submit(model.ask, [1] * 4) for _ in range(2)]
        while len(model.call._queues["double"]) < 2:
            time.sleep(0.001)
        assert model.ask([1]) == "UnavailableError"
        model.let_go.set()
        assert [answer.result() for answer in held + queued] == [[200] * 4] * 2 + [[2] * 4] * 2
