"""Work divided among the replicas of a `tf.distribute.Strategy`; a single replica adds nothing to the graph."""

import numpy as np
import tensorflow as tf


def num_replicas():
    """Number of replicas in this step; 1 outside `tf.distribute.Strategy.run`."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_index():
    """Index of this replica among those of all workers; 0 outside `tf.distribute.Strategy.run`."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else int(tf.get_static_value(context.replica_id_in_sync_group))


def mean_over_replicas(tensors):
    """The mean of each float32 tensor over all replicas, in a single exchange; the same bits on every replica."""
    return _reduce(tf.distribute.ReduceOp.MEAN, tensors)


def sum_over_replicas(tensors):
    """The sum of each float32 tensor over all replicas, exchanged as in `mean_over_replicas`."""
    return _reduce(tf.distribute.ReduceOp.SUM, tensors)


def _reduce(operation, tensors):
    if num_replicas() == 1:
        return tensors
    # The exchange between workers rejects arguments of the step, because they are not placed on a device yet.
    placed = [tf.identity(tensor) for tensor in tensors]
    return tf.distribute.get_replica_context().all_reduce(operation, placed)


def assign(variable, value):
    """Sets this replica's copy of a Keras variable.

    Every replica computes the same value from the same numbers, so nothing needs to be exchanged; TensorFlow's own
    assignment to a mirrored variable would exchange the variables one by one.
    """
    live = variable.value
    if num_replicas() > 1:
        copies = tf.distribute.get_strategy().experimental_local_results(live)
        live = copies[replica_index() % len(copies)]
    live.assign(value)


def round_up(size, strategy):
    """The smallest multiple of the number of replicas that is at least `size`."""
    count = strategy.num_replicas_in_sync
    return -(-size // count) * count


def pad_rows(rows, size):
    """Pads the rows with zeros to an array [size, ...]."""
    return np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def run_on_replicas(strategy, function, model, rows, *arguments):
    """Computes `function(model, *rows, *arguments)` with the rows divided among the replicas.

    Args:
        strategy: `tf.distribute.Strategy` in whose scope the model was created, with all replicas in this process.
        function: `tf.function` that returns a tensor or a tuple of tensors, with the rows as their first axis.
        model: the model to pass on.
        rows: list of arrays [B, ...], where B is a multiple of the number of replicas.
        *arguments: passed unchanged to every replica.

    Returns:
        A list of arrays [B, ...], one for each output.
    """
    count = strategy.num_replicas_in_sync
    if count == 1:
        outputs = function(model, *map(tf.constant, rows), *arguments)
        return [output.numpy() for output in tf.nest.flatten(outputs)]

    def shard(values):
        parts = np.split(values, count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    outputs = strategy.run(function, args=(model, *map(shard, rows), *arguments))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [np.concatenate([part.numpy() for part in strategy.experimental_local_results(out)]) for out in outputs]
