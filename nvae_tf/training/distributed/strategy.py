"""On which devices and machines a run trains."""

import os

import tensorflow as tf

from nvae_tf.layers.replicas import replica_index

STRATEGIES = ("auto", "one", "mirrored", "multi_worker")


def make_strategy(name="auto", cluster=None, num_logical_cpus=0):
    """The `tf.distribute.Strategy` of a run; to be called before anything else of TensorFlow.

    Args:
        name: `"one"` for one device, `"mirrored"` for every visible GPU of this machine, `"multi_worker"` for every
            visible GPU of every worker of the cluster; `"auto"` is the last where there is a cluster, the second
            where there are several GPUs, and the first otherwise. Default `"auto"`.
        cluster: `Cluster` of the workers, or None. Default None.
        num_logical_cpus: split the CPU into so many devices, to try several replicas on a machine without GPUs; 0
            leaves it whole. Default 0.

    Raises:
        ValueError: another name, `"multi_worker"` without a cluster, or `"one"` or `"mirrored"` with one.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy: expected one of {STRATEGIES}. Received: {name!r}")
    if name == "multi_worker" and cluster is None:
        raise ValueError(
            "strategy: multi_worker expected the workers, by --coordinator, --num_workers and --worker_index, by "
            "TF_CONFIG or by SLURM. Received: none of them"
        )
    if name in ("one", "mirrored") and cluster is not None:
        raise ValueError(f"strategy: expected auto or multi_worker with several workers. Received: {name!r}")
    if num_logical_cpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * num_logical_cpus
        tf.config.set_logical_device_configuration(cpu, parts)
    if cluster is not None:
        return _multi_worker(cluster)
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and (len(gpus) > 1 or num_logical_cpus > 1)):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _multi_worker(cluster):
    os.environ["TF_CONFIG"] = cluster.tf_config()
    return tf.distribute.MultiWorkerMirroredStrategy()


def num_workers(strategy):
    """Worker processes of a strategy."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 1
    return max(1, resolver.cluster_spec().num_tasks("worker"))


def local_replicas(strategy):
    """Indices, among all replicas, of those of this worker."""
    count = strategy.num_replicas_in_sync // num_workers(strategy)
    first = count * worker_index(strategy)
    return tuple(range(first, first + count))


def worker_index(strategy):
    """Which of the workers this process is; 0, the chief, writes the run's files."""
    return strategy.cluster_resolver.task_id if num_workers(strategy) > 1 else 0


def numbers_of_workers(strategy, number):
    """The number that each worker came with, in the order of the workers; waits until all have come.

    Args:
        strategy: `tf.distribute.Strategy`.
        number: exact as a float64.

    Returns:
        List of floats.
    """
    workers = num_workers(strategy)
    if workers == 1:
        return [float(number)]

    def gather(value):
        context = tf.distribute.get_replica_context()
        return context.all_reduce(
            tf.distribute.ReduceOp.SUM, value * tf.one_hot(replica_index(), replicas, 1.0, 0.0, dtype=tf.float64)
        )

    replicas = strategy.num_replicas_in_sync
    run = tf.function(lambda value: strategy.run(gather, args=(value,)), autograph=False)
    numbers = strategy.experimental_local_results(run(tf.constant(number, tf.float64)))[0]
    return numbers.numpy()[:: replicas // workers].tolist()
