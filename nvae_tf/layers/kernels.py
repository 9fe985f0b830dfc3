"""Effective kernels, computed for many convolutions at once, and settings of all convolutions in a `with` statement.

A deep hierarchy has thousands of variables, and a graph that treats each one separately takes minutes to trace.
Therefore tensors of one shape are stacked and processed by a few wide ops.
"""

import contextlib
import contextvars
import math

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.replicas import assign

_NORM_EPSILON = 1e-5
# Largest stack, in elements. Element-wise ops pass over a stack many times, and every pass goes to main memory if the
# stack does not fit in the caches.
_MAX_ELEMENTS = 2_000_000

# Effective kernels computed together for many layers, by id(layer).
_given_kernels = contextvars.ContextVar("given_kernels", default=None)
# The type in which dense (not depthwise) convolutions compute, or None for that of the kernels; inputs and outputs keep
# their types.
ARITHMETIC_DTYPE = contextvars.ContextVar("arithmetic_dtype", default=None)
# The type to which a model whose layers compute in the type of their input casts what enters its first layers.
COMPUTE_DTYPE = contextvars.ContextVar("compute_dtype", default="float32")
# Whether layers with `data_dependent` set their log norm and bias from the batch that they see.
INITIALIZING_FROM_DATA = contextvars.ContextVar("initializing_from_data", default=False)


@contextlib.contextmanager
def setting(variable, value):
    """Context in which a context variable has the given value."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def given_kernel(layer):
    """The effective kernel of a layer within `given_kernels`, else None."""
    return (_given_kernels.get() or {}).get(id(layer))


def normalize_kernel(kernel, log_norm):
    """exp(log_norm) * w / (||w|| + 1e-5) of kernels w [..., kh, kw, in/groups, out], with one norm for each output."""
    # A custom gradient takes tensors, not variables.
    return _normalize(tf.convert_to_tensor(kernel), tf.convert_to_tensor(log_norm))


@tf.custom_gradient
def _normalize(kernel, log_norm):
    """`normalize_kernel` with a gradient that passes over the weights fewer times than that of the separate ops."""
    axes = (-4, -3, -2)
    norm = tf.sqrt(tf.reduce_sum(tf.square(kernel), axes, keepdims=True))
    factor = tf.exp(log_norm)[..., tf.newaxis, tf.newaxis, tf.newaxis, :] / (norm + _NORM_EPSILON)

    def gradient(upstream):
        # With s = <upstream, w>: d log_norm = factor * s, and d w = factor * (upstream - w * s / (n (n + eps))).
        scaled = factor * tf.reduce_sum(upstream * kernel, axes, keepdims=True)
        pull = scaled / (tf.maximum(norm, 1e-30) * (norm + _NORM_EPSILON))
        return factor * upstream - pull * kernel, tf.squeeze(scaled, axes)

    return kernel * factor, gradient


def group_by(items, key):
    """Lists of the items with equal keys, in order of first appearance."""
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def split_by_size(items, shape):
    """Splits items with one variable of `shape` each into lists whose stacks fit in the caches."""
    count = max(1, _MAX_ELEMENTS // math.prod(shape))
    return [items[start : start + count] for start in range(0, len(items), count)]


def stack(variables):
    """Stacks the values of n variables or tensors of one shape to a tensor [n, ...]."""
    if len(variables) == 1:
        return tf.expand_dims(tf.convert_to_tensor(variables[0]), 0)
    return tf.stack([tf.convert_to_tensor(variable) for variable in variables])


class VariableStacks:
    """Keras variables that are read, differentiated and updated in stacks: `groups` are lists of one shape each."""

    def __init__(self, groups):
        self.groups = groups

    def read(self):
        """Current values: a tensor [n, ...] for each group."""
        return [stack(group) for group in self.groups]

    def rows(self, stacks):
        """Yields each variable with its row of `stacks`."""
        for group, values in zip(self.groups, stacks, strict=True):
            yield from zip(group, tf.unstack(values), strict=True)

    def scope(self, stacks):
        """`keras.StatelessScope` in which the value of each variable is its row of `stacks`."""
        return keras.StatelessScope(state_mapping=list(self.rows(stacks)), initialize_variables=False)

    def assign(self, stacks):
        """Sets this replica's copy of every variable to its row of `stacks`."""
        for variable, value in self.rows(stacks):
            assign(variable, value)


class KernelStack:
    """Built `Conv2D` layers with equal `stack_key`, whose kernels form a tensor [n, kh, kw, in, out]."""

    def __init__(self, layers):
        self.layers = layers
        self.weight_norm = layers[0].weight_norm
        masks = [layer.mask for layer in layers]
        self.mask = None if masks[0] is None else np.stack(masks)

    @property
    def variables(self):
        """Lists of the layers' kernels and, with weight norm, log norms; `effective` takes them stacked."""
        names = ("kernel", "log_norm") if self.weight_norm else ("kernel",)
        return [[getattr(layer, name) for layer in self.layers] for name in names]

    def effective(self, *values):
        """Effective kernels [n, kh, kw, in, out], from stacks of `variables` or, if none are given, their values."""
        kernels, *log_norms = values or map(stack, self.variables)
        if self.mask is not None:
            kernels = kernels * self.mask
        return normalize_kernel(kernels, *log_norms) if self.weight_norm else kernels


def kernel_stacks(layers):
    """`KernelStack`s that cover `layers`, in order of first appearance."""
    groups = group_by(layers, lambda layer: layer.stack_key)
    return [KernelStack(part) for group in groups for part in split_by_size(group, group[0].kernel.shape)]


def given_kernels(layers, kernels):
    """Context in which each of the layers uses its given effective kernel and computes in its type.

    Outside of it, and if it has none, a layer computes its own.
    """
    return setting(_given_kernels, dict(zip(map(id, layers), kernels, strict=True)))


def shared_kernels(stacks, effective):
    """`given_kernels` of all layers of `KernelStack`s, from the effective kernels [n, kh, kw, in, out] of each."""
    layers = [layer for one in stacks for layer in one.layers]
    return given_kernels(layers, [kernel for values in effective for kernel in tf.unstack(values)])
