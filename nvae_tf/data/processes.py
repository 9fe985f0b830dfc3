"""Work on images in several processes."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading

_shared = None  # in a worker: the data that all tasks have in common


def num_cores():
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _end_with_parent():
    # A parent that is killed cannot stop its workers; without this they would wait forever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker(path):
    global _shared
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # GPU memory belongs to the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # the pool ends its workers with it
    try:
        with open(path, "rb") as file:
            _shared = pickle.load(file)
    except FileNotFoundError:
        os._exit(1)  # the parent has exited in the meantime


def _call(function, task):
    return function(_shared, task)


@contextlib.contextmanager
def _signals_delayed():
    """Delays SIGINT and SIGTERM while processes start; the new processes inherit the blocked signals.

    Ctrl-C reaches every process in a terminal; the workers ignore it and end with this process.
    """
    numbers, received = (signal.SIGINT, signal.SIGTERM), []
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # it also handles the signals of other threads
        handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for number in received:
            signal.raise_signal(number)


def map_in_processes(function, shared, tasks, num_processes):
    """Computes `function(shared, task)` for each task in other processes and yields the results in order.

    `function` must be defined at the top level of a module. `shared`, which all tasks have in common, is sent to each
    process once. If a process is killed or cannot start, `ChildProcessError` is raised.
    """
    with tempfile.NamedTemporaryFile(prefix="nvae_tf_") as file:
        # Passed in a file: if a worker were killed while it reads from a pipe, this process would block forever.
        pickle.dump(shared, file)
        file.flush()
        # Not fork: the locks of TensorFlow's threads would be copied, but not the threads that release them.
        spawn = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(num_processes, spawn, _start_worker, (file.name,))
        try:
            with _signals_delayed():
                results = pool.map(functools.partial(_call, function), tasks)
            yield from results
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ChildProcessError(
                f"expected {num_processes} processes. Received: one that ended by itself, most likely "
                "for lack of memory; fewer processes need less. (A script that starts them needs "
                "`if __name__ == '__main__':`.)"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
