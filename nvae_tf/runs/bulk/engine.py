"""Writes the shards of a job with Ray, on one machine or a cluster. Only this module imports ray."""

import logging
import os
import signal
import socket
import traceback

from nvae_tf.runs.program import one_line


def import_ray():
    """The package ray; raises ImportError, which names the extra, if it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise a warning on machines without GPUs
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what a dead worker means is said here
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f"bulk.py needs Ray: pip install -e '.[cluster]' ({error})") from error
    return ray


class Worker:
    """Holds the model, in a process that Ray starts anew when it dies."""

    def __init__(self, work, cpus):
        self._work, self._model = work, None
        import tensorflow as tf

        if cpus and not tf.config.list_physical_devices("GPU"):
            tf.config.threading.set_intra_op_parallelism_threads(cpus)
            tf.config.threading.set_inter_op_parallelism_threads(cpus)

    def __call__(self, batch):
        # An error is a result, which the driver says in a line; Ray would print the traceback of every worker.
        try:
            self._model = self._model or self._work.weights.load_folded()
            self._work.write(int(batch["shard"][0]), self._model)
            return {"shard": batch["shard"], "error": [""], "traceback": [""]}
        except Exception as error:
            message = one_line(error)
            text = f"{message} (on {socket.gethostname()})" if message else ""
            return {"shard": batch["shard"], "error": [text], "traceback": ["" if text else traceback.format_exc()]}


def _pool(nodes, cpus_per_worker):
    """(number of workers, resources of each): one for each GPU of the nodes, or for `cpus_per_worker` cores."""
    gpus = int(sum(resources.get("GPU", 0) for resources in nodes))
    if gpus:
        return gpus, {"num_gpus": 1, "num_cpus": 1}
    count = sum(int(resources.get("CPU", 0)) // cpus_per_worker for resources in nodes)
    if not count:
        most = max(int(resources.get("CPU", 0)) for resources in nodes)
        raise ValueError(f"--cpus_per_worker: expected at most {most}, a machine's cores. Received: {cpus_per_worker}")
    return count, {"num_cpus": cpus_per_worker}


def write_shards(work, numbers, address, cpus_per_worker):
    """Writes shards of a `Work`; yields the number of each that is finished.

    A worker that dies is replaced and writes its shard again. Those of a machine that is gone are written by the others
    once they are free.

    Args:
        work: `Work`, whose folder all machines share.
        numbers: numbers of the shards.
        address: address of a Ray cluster, or "auto" for that of this machine; None to start one here.
        cpus_per_worker: number of cores of a worker, where there are no GPUs.

    Raises:
        ValueError: a worker cannot start, load the model, read its images or write; or there is no such cluster.
    """
    ray = import_ray()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address, **quiet) if address else ray.init("local", include_dashboard=False, **quiet)
        # Ray's own handler prints a stack; here SIGTERM is as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"--address: expected a Ray cluster, HOST:PORT or auto. Received: {address}: {error}"
        ) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, resources = _pool(nodes, cpus_per_worker)
        count = min(count, len(numbers))
        print(f"workers: {count}, machines: {len(nodes)}, shards to write: {len(numbers)}", flush=True)
        yield from _finished(ray, work, numbers, count, resources)
    except ray.exceptions.RayError as error:  # its message has the tracebacks of all processes on the way
        raise ValueError(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        ray.shutdown()


def _finished(ray, work, numbers, count, resources):
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # One block and one task for each shard, and none waiting behind another, which a dead worker would keep.
    shards = ray.data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers))
    results = shards.map_batches(
        Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        fn_constructor_args=(work, resources.get("num_cpus")),
        **resources,
    )
    for result in results.iter_rows():
        if result["traceback"]:
            raise RuntimeError(f"a worker failed:\n{result['traceback']}")
        if result["error"]:
            raise ValueError(result["error"])
        yield result["shard"]
