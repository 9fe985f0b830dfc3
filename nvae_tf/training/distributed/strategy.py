"""The devices and machines that a run uses."""

import tensorflow as tf

from nvae_tf.layers.replicas import replica_index


def make_strategy(name="auto", workers=(), num_logical_cpus=0):
    """Makes the `tf.distribute.Strategy` of a run; call this before any use of TensorFlow except `find_workers`.

    Args:
        name: `"one"` for one device, `"mirrored"` for every visible GPU of this machine, `"multi_worker"` for every
            visible GPU of every worker; `"auto"` is the last if there are workers, the second if there are several
            GPUs, and the first otherwise. Default `"auto"`.
        workers: what `find_workers` returned. Default ().
        num_logical_cpus: number of devices to split the CPU into, to test several replicas on a machine without GPUs; 0
            leaves it whole. Default 0.

    Raises:
        ValueError: `"multi_worker"` without workers, or `"one"` or `"mirrored"` with them.
    """
    if name == "multi_worker" and not workers:
        raise ValueError(
            "strategy: multi_worker expected the workers, by --workers and --worker_index, by TF_CONFIG or by SLURM. "
            "Received: none of them"
        )
    if name in ("one", "mirrored") and workers:
        raise ValueError(f"strategy: expected auto or multi_worker with several workers. Received: {name!r}")
    if num_logical_cpus:
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * num_logical_cpus
        tf.config.set_logical_device_configuration(cpu, parts)
    if workers:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and (len(gpus) > 1 or num_logical_cpus > 1)):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def num_workers(strategy):
    """Number of worker processes of a strategy."""
    is_multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return strategy.cluster_resolver.cluster_spec().num_tasks("worker") if is_multi_worker else 1


def worker_index(strategy):
    """Index of this process among the workers; worker 0, the chief, writes the run's files."""
    return strategy.cluster_resolver.task_id if num_workers(strategy) > 1 else 0


def local_replicas(strategy):
    """Indices of this worker's replicas among all replicas."""
    count = strategy.num_replicas_in_sync // num_workers(strategy)
    first = count * worker_index(strategy)
    return tuple(range(first, first + count))


def numbers_of_workers(strategy, number):
    """Gathers a number, exact as float64, from every worker, as a list in their order; waits for all workers."""
    workers = num_workers(strategy)
    if workers == 1:
        return [float(number)]
    replicas = strategy.num_replicas_in_sync

    def gather(value):
        context = tf.distribute.get_replica_context()
        return context.all_reduce(
            tf.distribute.ReduceOp.SUM, value * tf.one_hot(replica_index(), replicas, 1.0, 0.0, dtype=tf.float64)
        )

    run = tf.function(lambda value: strategy.run(gather, args=(value,)), autograph=False)
    numbers = strategy.experimental_local_results(run(tf.constant(number, tf.float64)))[0]
    return numbers.numpy()[:: replicas // workers].tolist()
