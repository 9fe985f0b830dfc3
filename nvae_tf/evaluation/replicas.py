"""Work on the rows of a batch, divided among the replicas of a strategy."""

import numpy as np
import tensorflow as tf


def round_up(size, strategy):
    """The least multiple of the number of replicas that is not below `size`."""
    count = strategy.num_replicas_in_sync
    return -(-size // count) * count


def run_on_replicas(strategy, function, model, rows, *arguments):
    """Outputs of `function(model, *rows, *arguments)` as arrays, each replica working on a part of the rows.

    Args:
        strategy: `tf.distribute.Strategy` in whose scope the model was made, all its replicas in this process.
        function: `tf.function` that gives a tensor or a tuple of them, with the rows as their first axis.
        model: `NVAE`.
        rows: list of arrays [B, ...], B a multiple of the number of replicas.
        *arguments: the same for every replica.

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
