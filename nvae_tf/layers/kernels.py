"""Effective kernels, computed for many convolutions at once, and how the convolutions of a block of code compute.

What holds for every convolution within a `with` statement is said by the contexts of this module: which kernels are
shared, in which type the arithmetic is, whether the batch decides initial values.
"""

import contextlib
import contextvars

import numpy as np
import tensorflow as tf

from nvae_tf.layers.stacking import group_by, split_by_size, stack

_NORM_EPSILON = 1e-5

# Kernels computed together for many layers, by id(layer); see `shared_kernels`.
_shared_kernels = contextvars.ContextVar("shared_kernels", default=None)
_arithmetic_dtype = contextvars.ContextVar("arithmetic_dtype", default=None)
_initializing_from_data = contextvars.ContextVar("initializing_from_data", default=False)


@contextlib.contextmanager
def _set(variable, value):
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def arithmetic_dtype(dtype):
    """Context in which dense (not depthwise) convolutions compute in `dtype`; inputs and outputs stay as they are.

    Args:
        dtype: name of a type; None for the type of the kernels.
    """
    return _set(_arithmetic_dtype, dtype)


def initializing_from_data():
    """Context in which layers with `data_dependent` set their log norm and bias from the batch they see."""
    return _set(_initializing_from_data, True)


def other_arithmetic_dtype():
    """What `arithmetic_dtype` was given, or None."""
    return _arithmetic_dtype.get()


def is_initializing_from_data():
    """Whether this is within `initializing_from_data`."""
    return _initializing_from_data.get()


def shared_kernel(layer):
    """The effective kernel shared for a layer, or None; see `shared_kernels` and `given_kernels`."""
    return (_shared_kernels.get() or {}).get(id(layer))


def normalize_kernel(kernel, log_norm):
    """w_eff = exp(log_norm) * w / (||w|| + 1e-5), the norm over all but the last axis of one kernel.

    Args:
        kernel: [..., kh, kw, in/groups, out].
        log_norm: [..., out].
    """
    # A custom gradient takes tensors, not variables.
    return _normalize(tf.convert_to_tensor(kernel), tf.convert_to_tensor(log_norm))


@tf.custom_gradient
def _normalize(kernel, log_norm):
    """`normalize_kernel`, its gradient in fewer passes over all weights of the model than the chain of its ops."""
    axes = (-4, -3, -2)
    norm = tf.sqrt(tf.reduce_sum(tf.square(kernel), axes, keepdims=True))
    factor = tf.exp(log_norm)[..., tf.newaxis, tf.newaxis, tf.newaxis, :] / (norm + _NORM_EPSILON)

    def gradient(upstream):
        # With s = <upstream, w>: d log_norm = factor * s, and d w = factor * (upstream - w * s / (n (n + eps))).
        scaled = factor * tf.reduce_sum(upstream * kernel, axes, keepdims=True)
        pull = scaled / (tf.maximum(norm, 1e-30) * (norm + _NORM_EPSILON))
        return factor * upstream - pull * kernel, tf.squeeze(scaled, axes)

    return kernel * factor, gradient


class KernelStack:
    """Convolutions whose kernels have one shape and one treatment, worked on as one [n, kh, kw, in, out] tensor.

    Args:
        layers: built `Conv2D` layers of one `stack_key`.
    """

    def __init__(self, layers):
        self.layers = layers
        self.weight_norm = layers[0].weight_norm
        masks = [layer.mask for layer in layers]
        self.mask = None if masks[0] is None else np.stack(masks)

    @property
    def variables(self):
        """Lists of the layers' kernels and, with weight norm, of their log norms: what `effective` takes stacked."""
        names = ("kernel", "log_norm") if self.weight_norm else ("kernel",)
        return [[getattr(layer, name) for layer in self.layers] for name in names]

    def effective(self, kernels=None, log_norms=None):
        """Effective kernels [n, kh, kw, in, out]; from given stacks of the raw variables, or from the variables."""
        if kernels is None:
            kernels = stack([layer.kernel for layer in self.layers])
        if self.mask is not None:
            kernels = kernels * self.mask
        if not self.weight_norm:
            return kernels
        if log_norms is None:
            log_norms = stack([layer.log_norm for layer in self.layers])
        return normalize_kernel(kernels, log_norms)


def kernel_stacks(layers):
    """`KernelStack`s that cover `layers`, in order of first appearance."""
    groups = group_by(layers, lambda layer: layer.stack_key)
    return [KernelStack(part) for group in groups for part in split_by_size(group, group[0].kernel.shape)]


@contextlib.contextmanager
def shared_kernels(stacks, effective=None):
    """Context in which layers use kernels computed stacked by shape: a few wide ops instead of some per layer.

    Args:
        stacks: `KernelStack`s.
        effective: their effective kernels when these are at hand; computed if None. Their type is the type that the
            layers compute in.

    Nested uses keep the outer kernels, so that a caller that computed them decides.
    """
    if _shared_kernels.get() is not None or _initializing_from_data.get():
        yield
        return
    kernels = {}
    for index, one in enumerate(stacks):
        values = one.effective() if effective is None else effective[index]
        kernels.update(zip(map(id, one.layers), tf.unstack(values), strict=True))
    with _set(_shared_kernels, kernels):
        yield


def given_kernels(layers, kernels):
    """Context in which each of the layers uses the effective kernel given for it, and no others are shared."""
    return _set(_shared_kernels, dict(zip(map(id, layers), kernels, strict=True)))
