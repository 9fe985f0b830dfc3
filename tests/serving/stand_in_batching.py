"""Merges the rows of concurrent requests, as a server with `--enable_batching` does.

The rules are those of `tensorflow_serving/batching/batching_util.h`: dimension 0 of every tensor is the batch; the rows
of different requests are concatenated, padded by repeating a row to an allowed size, run once, and split.

Requests that differ in shape fail their whole batch with FAILED_PRECONDITION and the graph's name of the tensor, those
that differ in dtype with INTERNAL: `tensorflow_serving/batching/batching_session.cc`. A full queue is UNAVAILABLE as in
TensorFlow's core/kernels/batching_util/shared_batch_scheduler.h, which takes the queues in turn where this takes the
oldest request first. Unsourced: the words of the other messages.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import pathlib
import re
import threading
import time

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, slots=True)
class BatchingParameters:
    """The content of a batching_parameters.txt."""

    max_batch_size: int
    batch_timeout_micros: int
    max_enqueued_batches: int
    num_batch_threads: int
    allowed_batch_sizes: tuple

    @classmethod
    def read(cls, path):
        """Reads a file by patterns, because its message type is not in tensorflow-serving-api."""
        text = re.sub(r"#.*", "", pathlib.Path(path).read_text())
        fields = {name: int(value) for name, value in re.findall(r"(\w+)\s*\{\s*value\s*:\s*(\d+)\s*\}", text)}
        sizes = tuple(int(size) for size in re.findall(r"allowed_batch_sizes\s*:\s*(\d+)", text))
        return cls(**fields, allowed_batch_sizes=sizes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    inputs: dict
    rows: int
    due: float
    outputs: concurrent.futures.Future


def count_rows(inputs, max_batch_size):
    """The batch size of a request; INVALID_ARGUMENT unless dimension 0 is the same for all inputs."""
    if any(value.ndim == 0 for value in inputs.values()):
        raise tf.errors.InvalidArgumentError(None, None, "Batching input tensors must have at least one dimension")
    sizes = {len(value) for value in inputs.values()}
    if len(sizes) != 1:
        message = f"Batching input tensors must have equal 0th-dimension size. Received: {sorted(sizes)}"
        raise tf.errors.InvalidArgumentError(None, None, message)
    rows = sizes.pop()
    if not 0 < rows <= max_batch_size:
        message = f"Batch size: expected from 1 to {max_batch_size}. Received: {rows}"
        raise tf.errors.InvalidArgumentError(None, None, message)
    return rows


class Batcher:
    """A queue for each signature, and threads that run what is due in any of them.

    Args:
        parameters: `BatchingParameters`.
        runs: {signature: function from {input: array} to {output: array}}.
        tensor: function from a signature and an input to the input's name in the graph.
    """

    def __init__(self, parameters, runs, tensor):
        self._parameters, self._runs, self._tensor = parameters, runs, tensor
        self._queues = {name: collections.deque() for name in runs}
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work) for _ in range(parameters.num_batch_threads)]
        for thread in self._threads:
            thread.start()

    def __call__(self, signature, inputs):
        """Waits for the answer to a request. If a batch fails, so do all requests in it."""
        limits = self._parameters
        rows = count_rows(inputs, limits.max_batch_size)
        due = time.monotonic() + limits.batch_timeout_micros / 1e6
        task = _Task(inputs, rows, due, concurrent.futures.Future())
        with self._changed:
            queue = self._queues[signature]
            if _rows(queue) + rows > limits.max_enqueued_batches * limits.max_batch_size:
                raise tf.errors.UnavailableError(None, None, f"The batching queue of signature {signature} is full")
            queue.append(task)
            self._changed.notify()
        return task.outputs.result()

    def close(self):
        """Runs what is queued, then ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self):
        while True:
            with self._changed:
                while not (signature := self._next_due()):
                    if self._closed:
                        return
                    first = min((queue[0].due for queue in self._queues.values() if queue), default=None)
                    self._changed.wait(None if first is None else max(0, first - time.monotonic()))
                tasks = self._take(self._queues[signature])
            self._process(signature, tasks)

    def _next_due(self):
        now, full = time.monotonic(), self._parameters.max_batch_size
        waiting = [name for name, queue in self._queues.items() if queue]
        due = [n for n in waiting if self._closed or self._queues[n][0].due <= now or _rows(self._queues[n]) >= full]
        # The oldest first, so that no signature starves another.
        return min(due, key=lambda name: self._queues[name][0].due, default=None)

    def _take(self, queue):
        tasks = [queue.popleft()]
        while queue and _rows(tasks) + queue[0].rows <= self._parameters.max_batch_size:
            tasks.append(queue.popleft())
        return tasks

    def _process(self, signature, tasks):
        rows = _rows(tasks)
        try:
            size = next(size for size in self._parameters.allowed_batch_sizes if size >= rows)
            outputs = self._runs[signature](_merge(tasks, size - rows, functools.partial(self._tensor, signature)))
            for name, value in outputs.items():
                if value.shape[:1] != (size,):
                    message = f"Output {name}: expected dimension 0 to be the batch, {size}. Received: {value.shape}"
                    raise tf.errors.FailedPreconditionError(None, None, message)
        except Exception as error:  # Whatever the error is, the waiting requests must receive it.
            for task in tasks:
                task.outputs.set_exception(error)
            return
        ends = np.cumsum([task.rows for task in tasks])
        for task, end in zip(tasks, ends, strict=True):
            task.outputs.set_result({name: value[end - task.rows : end] for name, value in outputs.items()})


def _rows(tasks):
    return sum(task.rows for task in tasks)


def _merge(tasks, padding, tensor):
    merged = {}
    for name, first in tasks[0].inputs.items():
        parts = [task.inputs[name] for task in tasks] + [first[:1]] * padding
        if len({part.shape[1:] for part in parts}) != 1:
            message = f"Tensors with name '{tensor(name)}' from different tasks have different shapes"
            raise tf.errors.FailedPreconditionError(None, None, f"{message} and padding is turned off.")
        if len({part.dtype for part in parts}) != 1:
            raise tf.errors.InternalError(None, None, "Tensor concat operation failed: different dtypes")
        merged[name] = np.concatenate(parts)
    return merged
