"""What the replicas of a distributed step share; with one replica nothing is added to the graph."""

import tensorflow as tf


def num_replicas():
    """Replicas that take this step together; 1 outside of `tf.distribute.Strategy.run`."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_index():
    """Which of the replicas, of all workers together, this is; 0 outside of `tf.distribute.Strategy.run`."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else int(tf.get_static_value(context.replica_id_in_sync_group))


def mean_over_replicas(tensors):
    """The mean of each tensor over all replicas, all of them in one exchange.

    Args:
        tensors: list of float32 tensors, of one shape on every replica.

    Returns:
        List of tensors; the same bits on every replica.
    """
    if num_replicas() == 1:
        return tensors
    # An argument of the step belongs to no device yet, which the exchange between workers does not take.
    placed = [tf.identity(tensor) for tensor in tensors]
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, placed)


def assign(variable, value):
    """Sets this replica's copy of a Keras variable.

    Every replica computes the same value from the same numbers, so that no copy has to be sent; TensorFlow's own
    assignment to a mirrored variable would exchange each variable by itself.
    """
    live = variable.value
    if num_replicas() > 1:
        copies = tf.distribute.get_strategy().experimental_local_results(live)
        live = copies[replica_index() % len(copies)]
    live.assign(value)
