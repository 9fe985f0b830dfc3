"""Which processes train together: by flags, by TF_CONFIG or by SLURM."""

import json
import os
import re

import tensorflow as tf
from absl import logging

_PORTS_PER_JOB = 16
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})")


def find_workers(workers=None, index=None):
    """Finds the workers of this training run and sets TF_CONFIG, from which TensorFlow reads them.

    The first of these sources that is present is used:

    1. The arguments.
    2. TF_CONFIG. A chief becomes worker 0.
    3. A SLURM step of several tasks, started by `srun`. The ports follow from the job's id, 16 for each job, so that
       jobs on one node do not meet unless their ids are a multiple of 1250 apart; two trainings within one job need the
       arguments instead. The GPUs of a node are divided among its tasks, unless SLURM has done so.
    4. Otherwise this process is the only worker.

    Call this before any other use of TensorFlow.

    Args:
        workers: addresses `"HOST:PORT"` (`"[::1]:1234"` for IPv6) of all workers, the same list on each. Default None.
        index: index of this process among them. Default None.

    Returns:
        List of addresses, empty if this process is the only worker.

    Raises:
        ValueError: wrong arguments or variables.
    """
    if (workers is None) != (index is None):
        raise ValueError(f"--workers and --worker_index: expected both or neither. Received: {workers} and {index}")
    from_variable = _from_tf_config()
    if workers is None:
        source = "TF_CONFIG" if from_variable else "SLURM"
        workers, index = from_variable or _from_slurm()
    else:
        source = "--workers"
        if from_variable:
            text = os.environ["TF_CONFIG"]
            raise ValueError(f"--workers: expected no TF_CONFIG, which names the workers too. Received: {text}")
    if workers or source == "--workers":
        _check(workers, index, source)
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    return workers


def _check(workers, index, source):
    for address in workers:
        match = _ADDRESS.fullmatch(address)
        if not match or not 0 < int(match[2]) < 65536:
            raise ValueError(f"{source}: expected HOST:PORT or [IPV6]:PORT. Received: {address!r}")
    if len(set(workers)) < len(workers):
        raise ValueError(f"{source}: expected each address once. Received: {', '.join(workers)}")
    if not 0 <= index < len(workers):
        name = "--worker_index" if source == "--workers" else source
        raise ValueError(f"{name}: expected an index from 0 to {len(workers) - 1}. Received: {index}")


def _from_tf_config():
    """(workers, index), or None if the variable is empty or names no cluster."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        cluster = resolver.cluster_spec().as_dict()
        if not cluster:
            return None
        if resolver.task_type not in cluster or not {"chief", "worker"}.issuperset(cluster):
            raise ValueError("expected tasks of type chief and worker")
        chiefs = cluster.get("chief", [])
        if len(chiefs) > 1 or (resolver.task_type == "chief" and resolver.task_id):
            raise ValueError("expected at most one chief, with index 0")
        return chiefs + cluster.get("worker", []), resolver.task_id + len(chiefs) * (resolver.task_type == "worker")
    except (ValueError, AttributeError, TypeError) as error:
        example = '{"cluster": {"worker": ["HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
        raise ValueError(f"TF_CONFIG: expected JSON such as {example}. Received: {text}: {error}") from error


def _from_slurm():
    """(workers, index) of a step of several tasks; ([], 0) otherwise.

    Only the variables of a step matter. A batch script has SLURM_PROCID and the job's nodes too, but what it starts
    without srun has no other tasks to wait for.
    """
    environment = os.environ
    if "SLURM_STEP_NUM_TASKS" not in environment and environment.get("SLURM_NTASKS", "1") != "1":
        logging.warning("SLURM: a job of %s tasks, but started without srun: one process", environment["SLURM_NTASKS"])
    if "SLURM_PROCID" not in environment or environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return [], 0
    try:
        # Below 32768, where Linux begins to hand out ports itself.
        base = 10000 + int(environment["SLURM_JOB_ID"]) % 1250 * _PORTS_PER_JOB
        # The resolver is told of one GPU per task, because it fails without GPUs. It sorts the nodes (node10 before
        # node9) but takes SLURM_PROCID as the index; the node's name gives the right one.
        num_tasks = int(environment["SLURM_STEP_NUM_TASKS"])
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=base, gpus_per_node=num_tasks, gpus_per_task=1, auto_set_gpu=False
        )
        workers = resolver.cluster_spec().job_tasks("worker")
        host, local_index = environment["SLURMD_NODENAME"], int(environment["SLURM_LOCALID"])
        index = workers.index(f"{host}:{base + local_index}")
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"SLURM: expected the variables that srun sets. Received: {error!r}") from error
    num_local = sum(address.startswith(f"{host}:") for address in workers)
    _take_own_gpus(local_index, num_local, int(environment.get("SLURM_GPUS_ON_NODE", 0)))
    return workers, index


def _take_own_gpus(index, num_tasks, num_gpus_on_node):
    """Leaves TensorFlow this task's share of the GPUs that all tasks of its node see."""
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < max(num_tasks, num_gpus_on_node):
        return  # none, too few to divide, or SLURM has given each task its own
    share = len(gpus) // num_tasks
    tf.config.set_visible_devices(gpus[index * share : (index + 1) * share], "GPU")
