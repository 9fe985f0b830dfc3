"""How the worker processes of one training run learn of each other."""

import dataclasses
import json

from absl import logging

from nvae_tf.training.distributed.rendezvous import ClusterError, meet, split_address

_PORTS_PER_JOB = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Workers of one training run.

    Args:
        workers: tuple of addresses `"host:port"`, in the order of their index.
        index: which of them this process is.
    """

    workers: tuple
    index: int

    def tf_config(self):
        """JSON text for the environment variable TF_CONFIG."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})


def resolve_cluster(environment, coordinator=None, num_workers=None, worker_index=None, timeout=300.0):
    """The workers of this training run, from the first of these that is there.

    1. The three arguments, which go together. Only worker 0's address needs to be known: it listens there until all
       have come and gives each the addresses of all. The ports that TensorFlow uses afterwards are free ones.
    2. TF_CONFIG, TensorFlow's own variable. A chief becomes worker 0.
    3. A SLURM step of several tasks, that is `srun`. Ports come from the job's id, so that jobs on one node do not
       meet: 16 for a job, and the same ones for the 1250th job after it. Two trainings at one time within one job
       need the arguments instead. The GPUs of a node are divided among its tasks, unless SLURM has done so.
    4. Otherwise this process trains alone.

    To be called once in a process, before anything else of TensorFlow.

    Args:
        environment: mapping of environment variables, such as `os.environ`; it is not changed.
        coordinator: `"HOST:PORT"` of worker 0 (`"[::1]:1234"` for IPv6), the same for all workers. Default None.
        num_workers: how many processes train together. Default None.
        worker_index: which of them this process is, 0 to `num_workers - 1`. Default None.
        timeout: seconds to wait for the others. Default 300.

    Returns:
        `Cluster`, or None for a process that trains alone.

    Raises:
        ClusterError: arguments or variables that do not fit, also those of one worker to another's, or workers
            that have not come in time. Each worker that has come is told what is wrong.
    """
    arguments = {"--coordinator": coordinator, "--num_workers": num_workers, "--worker_index": worker_index}
    missing = [flag for flag, value in arguments.items() if value is None]
    if missing and len(missing) < len(arguments):
        given = ", ".join(flag for flag in arguments if flag not in missing)
        raise ClusterError(f"{given}: expected {' and '.join(missing)} too. Received: no {' and no '.join(missing)}")
    cluster = _from_tf_config(environment.get("TF_CONFIG", ""))
    if missing:
        return cluster or _from_slurm(environment)
    if cluster:
        raise ClusterError(
            "--coordinator: expected no TF_CONFIG beside it, for both name the workers; unset one of them. "
            f"Received: {coordinator!r} and TF_CONFIG={environment['TF_CONFIG']}"
        )
    return Cluster(meet(coordinator, num_workers, worker_index, timeout), worker_index)


def _from_tf_config(text):
    """`Cluster`, or None where the variable is empty or names no cluster."""
    try:
        config = json.loads(text.strip() or "{}")
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        chiefs, others = cluster.get("chief", []), cluster.get("worker", [])
        kind, index = task.get("type"), task.get("index")
        workers = (*chiefs, *others)
    except (ValueError, AttributeError, TypeError) as error:
        example = '{"cluster": {"worker": ["HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
        raise ClusterError(f"TF_CONFIG: expected JSON such as {example}. Received: {text}") from error
    if not cluster:
        return None
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        raise ClusterError(f"TF_CONFIG: expected chief and worker alone in cluster. Received: {', '.join(unknown)}")
    for address in workers:
        split_address(address, "TF_CONFIG")
    if not workers or len(chiefs) > 1 or len(set(workers)) < len(workers):
        raise ClusterError(f"TF_CONFIG: expected workers, each address once, at most one chief. Received: {text}")
    if kind not in ("chief", "worker"):
        raise ClusterError(f"TF_CONFIG: expected a task of type chief or worker. Received: {kind!r}")
    count = len(cluster.get(kind, []))
    if type(index) is not int or not 0 <= index < count:
        raise ClusterError(f"TF_CONFIG: expected the index of one of {count} tasks of type {kind}. Received: {index!r}")
    return Cluster(workers, index + len(chiefs) * (kind == "worker"))


def _from_slurm(environment):
    """`Cluster` of a step of several tasks, or None.

    Only the variables of a step count: a batch script has SLURM_PROCID and the job's nodes too, but what it starts
    without srun has no other tasks beside it to wait for.
    """
    if "SLURM_STEP_NUM_TASKS" not in environment and environment.get("SLURM_NTASKS", "1") != "1":
        logging.warning("SLURM: a job of %s tasks, but started without srun: one process", environment["SLURM_NTASKS"])
    if "SLURM_PROCID" not in environment or environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return None
    # The helpers of TensorFlow's SlurmClusterResolver, not the class: it sorts the hosts (node10 before node9) but
    # takes the rank as it is, takes "block" for the tasks' distribution, and fails where there are no GPUs.
    from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
        expand_hostlist,
        expand_tasks_per_node,
    )

    try:
        # Below 32768, where Linux begins to hand out ports itself.
        base = 10000 + int(environment["SLURM_JOB_ID"]) % 1250 * _PORTS_PER_JOB
        hosts = expand_hostlist(environment["SLURM_STEP_NODELIST"])
        counts = expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        tasks = dict(zip(hosts, counts, strict=True))
        host, local_index = environment["SLURMD_NODENAME"], int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise ClusterError(f"SLURM: expected the variables that srun sets. Received: {error!r}") from error
    if not 0 <= local_index < tasks.get(host, 0):
        raise ClusterError(f"SLURM: expected one of the step's tasks {tasks}. Received: task {local_index} of {host!r}")
    workers = tuple(f"{node}:{base + task}" for node, count in tasks.items() for task in range(count))
    _take_own_gpus(local_index, tasks[host], int(environment.get("SLURM_GPUS_ON_NODE", 0)))
    return Cluster(workers, workers.index(f"{host}:{base + local_index}"))


def _take_own_gpus(index, num_tasks, num_gpus_on_node):
    """Leaves TensorFlow this task's share of the GPUs that all tasks of its node see."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < max(num_tasks, num_gpus_on_node):
        return  # none, too few to divide, or SLURM has given each task its own
    share = len(gpus) // num_tasks
    tf.config.set_visible_devices(gpus[index * share : (index + 1) * share], "GPU")
