"""Convolutions: weight-normalised (the default), plain, grouped and depthwise.

Every convolution of the model is a `Conv2D`, and every kernel variable is [kh, kw, in/groups, out], depthwise ones
too, so that kernels of one shape can be stacked and normalised, regularised and updated together.
"""

import contextlib
import contextvars

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.convolution import convolution
from nvae_tf.layers.stacking import group_by, split_by_size, stack

_NORM_EPSILON = 1e-5
_LOG_NORM_EPSILON = 1e-2
_INITIAL_STD_FACTOR = 5.0

# Kernels computed together for many layers, by id(layer); see `shared_kernels`.
_shared_kernels = contextvars.ContextVar("shared_kernels", default=None)
_arithmetic_dtype = contextvars.ContextVar("arithmetic_dtype", default="float32")
_initializing_from_data = contextvars.ContextVar("initializing_from_data", default=False)


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


@contextlib.contextmanager
def _set(variable, value):
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def arithmetic_dtype(dtype):
    """Context in which dense (not depthwise) convolutions compute in `dtype`; inputs and outputs stay float32."""
    return _set(_arithmetic_dtype, dtype)


def initializing_from_data():
    """Context in which layers with `data_dependent` set their log norm and bias from the batch they see."""
    return _set(_initializing_from_data, True)


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
        effective: their effective kernels when these are at hand; computed if None.

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


@keras.saving.register_keras_serializable(package="nvae_tf")
class Conv2D(keras.layers.Layer):
    """2-D convolution with symmetric padding, weight-normalised unless told otherwise.

    Args:
        filters: output channels.
        kernel_size: odd side of the square kernel.
        strides: 1 or 2. Default 1.
        dilation: spacing of the kernel's taps. Default 1.
        groups: groups of input channels; `"depthwise"` for one group a channel. Default 1.
        use_bias: add a bias. Default True.
        weight_norm: normalise each output channel's kernel to exp(log norm). Default True.
        log_norm_offset: added to the initial log norm. Default 0.
        data_dependent: set log norm and bias from the first batch (`initializing_from_data`), so that the output
            has mean 0 and standard deviation 1/5 in every channel. Default False.

    Input: [B, H, W, in]. Output: [B, H / strides, W / strides, filters].
    Padding is kernel_size // 2 * dilation on every side at every stride, unlike TensorFlow's "SAME" at stride 2.
    Kernels and biases start as U(-1/sqrt(fan_in), 1/sqrt(fan_in)), log norms as log(||w|| + 1e-2).
    Reference: paper, appendix A (weight normalisation).
    """

    mask = None

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        dilation=1,
        groups=1,
        use_bias=True,
        weight_norm=True,
        log_norm_offset=0.0,
        data_dependent=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation = dilation
        self.groups = groups
        self.use_bias = use_bias
        self.weight_norm = weight_norm
        self.log_norm_offset = log_norm_offset
        self.data_dependent = data_dependent

    @property
    def depthwise(self):
        """Whether each channel has a kernel of its own."""
        return self.groups == "depthwise"

    @property
    def stack_key(self):
        """Layers with equal keys can be worked on as one `KernelStack`."""
        return (tuple(self.kernel.shape), self.weight_norm, self.mask is not None)

    def build(self, input_shape):
        channels = input_shape[-1]
        in_per_group = 1 if self.depthwise else channels // self.groups
        fan_in = in_per_group * self.kernel_size**2
        shape = (self.kernel_size, self.kernel_size, in_per_group, self.filters)
        uniform = keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
        self.kernel = self.add_weight(shape=shape, initializer=uniform, name="kernel")
        if self.weight_norm:
            self.log_norm = self.add_weight(
                shape=(self.filters,), initializer=self._initial_log_norm, name="log_norm", autocast=False
            )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer=uniform.clone(), name="bias")

    def _initial_log_norm(self, shape, dtype=None):
        kernel = np.asarray(self.kernel)
        if self.mask is not None:
            kernel = kernel * self.mask
        norm = np.sqrt(np.sum(np.square(kernel), axis=(0, 1, 2)))
        return tf.constant(np.log(norm + _LOG_NORM_EPSILON) + self.log_norm_offset, dtype)

    def effective_kernel(self):
        """Kernel [kh, kw, in/groups, out] that the convolution uses: masked and normalised."""
        shared = _shared_kernels.get()
        if shared is not None and id(self) in shared:
            return shared[id(self)]
        kernel = self.kernel if self.mask is None else self.kernel * self.mask
        return normalize_kernel(kernel, self.log_norm) if self.weight_norm else tf.convert_to_tensor(kernel)

    def call(self, inputs):
        if self.data_dependent and _initializing_from_data.get():
            self._initialize_from(inputs)
        outputs = self._convolve(inputs, self.effective_kernel())
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs

    def _initialize_from(self, inputs):
        response = self._convolve(inputs, normalize_kernel(self.kernel.value, tf.zeros([self.filters])))
        mean, variance = tf.nn.moments(response, axes=(0, 1, 2))
        scale = _INITIAL_STD_FACTOR * tf.sqrt(tf.maximum(variance, 1e-12))
        self.log_norm.assign(-tf.math.log(scale))
        self.bias.assign(-mean / scale)

    def _convolve(self, inputs, kernel):
        if self.depthwise:
            filters = tf.transpose(kernel, (0, 1, 3, 2))  # [kh, kw, channels, 1]
            return tf.nn.depthwise_conv2d(inputs, filters, (1, self.strides, self.strides, 1), self._padding())
        dtype = _arithmetic_dtype.get()
        if dtype != inputs.dtype.name:
            return tf.cast(self._dense(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), inputs.dtype)
        return self._dense(inputs, kernel)

    def _dense(self, inputs, kernel):
        strides, dilation = self.strides, self.dilation
        if dilation > 1 and strides == dilation:
            # Every tap falls on the same residue class: a plain convolution of the decimated input.
            inputs, strides, dilation = inputs[:, ::strides, ::strides, :], 1, 1
        if dilation > 1:
            return tf.nn.convolution(inputs, kernel, strides=strides, padding="SAME", dilations=dilation)
        if self.groups > 1:
            # TensorFlow has no grouped convolution with gradients on the CPU.
            pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
            return tf.concat([tf.nn.conv2d(x, k, strides, self._padding()) for x, k in pairs], axis=-1)
        return convolution(inputs, kernel) if strides == 1 else tf.nn.conv2d(inputs, kernel, strides, self._padding())

    def _padding(self):
        pad = self.kernel_size // 2
        return [[0, 0], [pad, pad], [pad, pad], [0, 0]]
