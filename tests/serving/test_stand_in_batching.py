"""The batch rules of `tensorflow_serving/batching/batching_util.h`, on the stand-in's batcher."""

import concurrent.futures
import dataclasses
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.stand_in_batching import Batcher, BatchingParameters

_PARAMETERS = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 50000 }  # of the oldest request
max_enqueued_batches { value: 2 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 1
allowed_batch_sizes: 4
"""


class Model:
    """Signatures `a` and `b` that keep what they were run with; values below 0 fail, 100 waits until it is let go."""

    def __init__(self, parameters):
        self.batches = []
        self.running = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.call = Batcher(parameters, {name: self._function(name) for name in ("a", "b")})

    def _function(self, name):
        def run(inputs):
            x = inputs["x"]
            self.batches.append((name, x.tolist()))
            if x.min() < 0:
                raise tf.errors.InvalidArgumentError(None, None, "x: expected none below 0")
            if x.max() == 100:
                self.running.release()
                self.let_go.wait(30)
            return {"doubled": x * 2}

        return run

    def ask(self, rows, signature="a"):
        """The answer, or the error, as text or list."""
        try:
            return self.call(signature, {"x": np.array(rows)})["doubled"].tolist()
        except tf.errors.OpError as error:
            return type(error).__name__

    def ask_at_once(self, *requests):
        """The answers to requests that come together."""
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda request: self.ask(*request), requests))


@pytest.fixture
def parameters(tmp_path):
    path = tmp_path / "batching_parameters.txt"
    path.write_text(_PARAMETERS)
    return BatchingParameters.read(path)


@pytest.fixture
def model(parameters):
    model = Model(parameters)
    yield model
    model.let_go.set()
    model.call.close()


@pytest.fixture
def patient(parameters):
    """A model that waits for a full batch as long as it takes."""
    model = Model(dataclasses.replace(parameters, batch_timeout_micros=60_000_000))
    yield model
    model.call.close()


def test_reads_its_file(parameters, tmp_path):
    assert parameters == BatchingParameters(4, 50_000, 2, 2, (1, 4))
    path = tmp_path / "wrong.txt"
    path.write_text(_PARAMETERS.replace("allowed_batch_sizes: 4", "allowed_batch_sizes: 2"))
    with pytest.raises(ValueError, match="ascending allowed_batch_sizes"):
        BatchingParameters.read(path)


def test_rows_of_several_requests_run_as_one_batch(patient):
    assert patient.ask_at_once(([1],), ([2, 3],), ([4],)) == [[2], [4, 6], [8]]
    ((_, rows),) = patient.batches
    assert sorted(rows) == [1, 2, 3, 4]


def test_a_full_batch_does_not_wait(patient):
    started = time.monotonic()
    assert patient.ask([1, 2, 3, 4]) == [2, 4, 6, 8]
    assert time.monotonic() - started < 30


def test_a_batch_that_is_not_full_waits_for_the_time_set(model):
    started = time.monotonic()
    assert model.ask([1]) == [2]
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize(("rows", "batch"), [([7, 8], [7, 8, 7, 7]), ([7], [7])])
def test_pads_to_an_allowed_size_by_repeating_a_row(model, rows, batch):
    assert model.ask(rows) == [2 * row for row in rows]
    assert model.batches == [("a", batch)]


def test_signatures_are_not_mixed(model):
    assert model.ask_at_once(([1], "a"), ([2], "b")) == [[2], [4]]
    assert sorted(model.batches) == [("a", [1]), ("b", [2])]


def test_a_request_is_not_divided(model):
    assert model.ask_at_once(([1, 2, 3],), ([4, 5, 6],)) == [[2, 4, 6], [8, 10, 12]]
    assert sorted(rows[:3] for _, rows in model.batches) == [[1, 2, 3], [4, 5, 6]]


def test_a_batch_that_fails_fails_for_all_in_it(patient):
    assert patient.ask_at_once(([1],), ([-1],), ([2, 3],)) == ["InvalidArgumentError"] * 3
    assert patient.ask([1, 2, 3, 4]) == [2, 4, 6, 8]


def test_rows_of_other_shapes_fail_their_batch(patient):
    assert patient.ask_at_once(([1, 2, 3],), ([[1, 2]],)) == ["InvalidArgumentError"] * 2
    assert not patient.batches


@pytest.mark.parametrize("rows", [[], [1, 2, 3, 4, 5], 1], ids=["empty", "large", "scalar"])
def test_refuses_before_it_queues(model, rows):
    assert model.ask(np.array(rows, int)) == "InvalidArgumentError"
    assert not model.batches


def test_inputs_must_agree_in_rows(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="equal 0th-dimension"):
        model.call("a", {"x": np.zeros(2), "y": np.zeros(3)})


def test_batches_run_side_by_side_and_a_full_queue_is_unavailable(model):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        held = [pool.submit(model.ask, [100] * 4) for _ in range(2)]
        # Both run at once: neither has been let go.
        for _ in held:
            assert model.running.acquire(timeout=30)
        queued = [pool.submit(model.ask, [1] * 4) for _ in range(2)]
        while len(model.call._queues["a"]) < 2:
            time.sleep(0.001)
        assert model.ask([1]) == "UnavailableError"
        model.let_go.set()
        assert [answer.result() for answer in held + queued] == [[200] * 4] * 2 + [[2] * 4] * 2
