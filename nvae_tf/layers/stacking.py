"""Work over many tensors of one shape done as one: a few wide ops instead of some per variable.

A deep hierarchy has thousands of variables; a graph that treats each on its own takes minutes to trace.
"""

import math

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign

# Largest stack, in elements. The element-wise work over a stack goes over it many times; a stack that does not fit in
# the caches makes each time a trip to memory.
_MAX_ELEMENTS = 2_000_000


def group_by(items, key):
    """Lists of the items of equal key, in order of first appearance."""
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def split_by_size(items, shape):
    """Splits items that hold one variable of `shape` each into lists whose stacks stay small enough for the caches."""
    count = max(1, _MAX_ELEMENTS // math.prod(shape))
    return [items[start : start + count] for start in range(0, len(items), count)]


def stack(variables):
    """[n, ...] tensor of the values of n variables or tensors of one shape."""
    if len(variables) == 1:
        return tf.expand_dims(tf.convert_to_tensor(variables[0]), 0)
    return tf.stack([tf.convert_to_tensor(variable) for variable in variables])


class VariableStacks:
    """Variables held together, so that they are read, differentiated and updated as stacks.

    Args:
        groups: lists of keras variables of one shape; each list is a stack.
    """

    def __init__(self, groups):
        self.groups = groups

    def read(self):
        """Current values: for each group a tensor [n, ...]."""
        return [stack(group) for group in self.groups]

    def scope(self, stacks):
        """`keras.StatelessScope` in which each variable has its row of `stacks` as its value."""
        rows = []
        for group, values in zip(self.groups, stacks, strict=True):
            rows.extend(zip(group, tf.unstack(values), strict=True))
        return keras.StatelessScope(state_mapping=rows, initialize_variables=False)

    def assign(self, stacks):
        """Sets every variable, this replica's copy of it, to its row."""
        for group, values in zip(self.groups, stacks, strict=True):
            for variable, value in zip(group, tf.unstack(values), strict=True):
                assign(variable, value)
