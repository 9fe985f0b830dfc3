"""Work over images in several processes."""

import collections
import concurrent.futures
import mmap
import multiprocessing
import os
import pathlib
import pickle
import tempfile
import threading


class WorkerLostError(ChildProcessError):
    """A process that worked on images ended by itself."""


def _end_with_parent():
    # A parent that is killed cannot stop its workers; without this they would wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker(initializer, folder):
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        arguments = _load(pathlib.Path(folder))
    except FileNotFoundError:
        os._exit(1)  # the parent has given up while this process was starting
    if initializer is not None:
        initializer(*arguments)


# What workers begin with goes through files. In a pipe it would be sent to each of them, and a worker that is killed
# while it reads would leave the parent writing for ever; arrays in a file are mapped, and memory holds them once.
def _save(values, folder):
    buffers = []
    content = pickle.dumps(values, protocol=5, buffer_callback=buffers.append)
    for index, buffer in enumerate(buffers):
        (folder / f"buffer_{index}").write_bytes(buffer.raw())
    (folder / "values").write_bytes(pickle.dumps((content, len(buffers))))


def _load(folder):
    content, count = pickle.loads((folder / "values").read_bytes())
    return pickle.loads(content, buffers=[_mapped(folder / f"buffer_{index}") for index in range(count)])


def _mapped(path):
    if not path.stat().st_size:
        return b""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def num_cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def map_in_order(function, tasks, num_processes, initializer=None, arguments=()):
    """Results of `function(task)` in the order of the tasks, computed in other processes.

    No more tasks than twice the processes are under way, so that results that nobody has taken yet do not pile up.

    Args:
        function: module-level function.
        tasks: iterable of arguments.
        num_processes: how many.
        initializer, arguments: called in each process before its first task. Default None.

    Yields:
        The results.

    Raises:
        WorkerLostError: a process was killed, or could not start.
    """
    # Not fork: TensorFlow's threads would not come along, but the locks they hold would.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="nvae_tf_") as folder:
        _save(arguments, pathlib.Path(folder))
        with concurrent.futures.ProcessPoolExecutor(
            num_processes, context, _start_worker, (initializer, folder)
        ) as pool:
            try:
                yield from _results(pool, function, tasks, 2 * num_processes)
            except concurrent.futures.process.BrokenProcessPool as error:
                raise WorkerLostError(
                    f"expected {num_processes} processes to read images. Received: one that ended by itself, mostly "
                    "for want of memory (and a script that starts them needs `if __name__ == '__main__':`)"
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _results(pool, function, tasks, num_ahead):
    pending = collections.deque()
    for task in tasks:
        pending.append(pool.submit(function, task))
        if len(pending) > num_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
