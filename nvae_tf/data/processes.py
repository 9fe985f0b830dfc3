"""Work on images in several processes."""

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading

_shared = None  # in a worker: what all tasks have in common


def num_cores():
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _end_with_parent():
    # A parent that is killed cannot stop its workers; without this they would wait forever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker(path):
    global _shared
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # by which the pool ends its workers
    try:
        with open(path, "rb") as file:
            _shared = pickle.load(file)
    except FileNotFoundError:
        os._exit(1)  # the parent has given up meanwhile


def _call(function, task):
    return function(_shared, task)


def map_in_processes(function, shared, tasks, num_processes):
    """Computes `function(shared, task)` for each task in other processes.

    Args:
        function: module-level function.
        shared: what all tasks have in common; it is sent to each process once.
        tasks: list.
        num_processes: number of processes.

    Yields:
        The results, in the order of the tasks.

    Raises:
        ChildProcessError: a process was killed, or could not start.
    """
    # Not fork: the locks of TensorFlow's threads would be copied, but not the threads that release them.
    pool = concurrent.futures.ProcessPoolExecutor
    with tempfile.NamedTemporaryFile(prefix="nvae_tf_") as file:
        # Through a file: a worker that is killed while it reads from a pipe would leave this process writing forever.
        pickle.dump(shared, file)
        file.flush()
        pool = pool(num_processes, multiprocessing.get_context("spawn"), _start_worker, (file.name,))
        try:
            # Ctrl-C reaches every process of a terminal; the workers inherit that it is blocked and end with this one.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            try:
                results = pool.map(functools.partial(_call, function), tasks)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            yield from results
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ChildProcessError(
                f"expected {num_processes} processes to read images. Received: one that ended by itself, most likely "
                "for lack of memory; fewer processes need less. (A script that starts them needs "
                "`if __name__ == '__main__':`.)"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
