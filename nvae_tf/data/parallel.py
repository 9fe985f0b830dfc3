"""Work over images in several processes."""

import collections
import concurrent.futures
import multiprocessing
import os
import threading


def _end_with_parent():
    # A parent that is killed cannot stop its workers; without this they would wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker(initializer, arguments):
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


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
    """
    # Not fork: TensorFlow's threads would not come along, but the locks they hold would.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        num_processes, context, _start_worker, (initializer, arguments)
    ) as pool:
        pending = collections.deque()
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) > 2 * num_processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
