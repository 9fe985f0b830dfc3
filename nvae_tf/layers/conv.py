"""Convolutions: weight-normalised (the default), plain, grouped and depthwise.

Every convolution of the model is a `Conv2D`, and every kernel variable, even of a depthwise convolution, has the shape
[kh, kw, in/groups, out], so that kernels of one shape can be stacked and normalised, regularised and updated together.
"""

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.kernels import ARITHMETIC_DTYPE, INITIALIZING_FROM_DATA, given_kernel, normalize_kernel
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.replicas import assign, mean_over_replicas

_LOG_NORM_EPSILON = 1e-2
_INITIAL_STD_FACTOR = 5.0


@tf.custom_gradient
def _depthwise(inputs, filters):
    size, _, channels, _ = filters.shape
    pad, width = size // 2, inputs.shape[2]

    def gradient(upstream):
        # For the input, correlate with the flipped filters. For the filters, correlate the inputs with the upstream
        # gradient, all images one below the other; rows of zeros between them stand for the padding.
        input_gradient = tf.nn.depthwise_conv2d(upstream, tf.reverse(filters, (0, 1)), (1, 1, 1, 1), "SAME")
        gaps = [[0, 0], [0, pad], [0, 0], [0, 0]]
        column, response = (tf.pad(tf.cast(one, tf.float32), gaps) for one in (inputs, upstream))
        filter_gradient = tf.nn.depthwise_conv2d(
            tf.reshape(column, [1, -1, width, channels]),
            tf.reshape(response, [-1, width, channels, 1]),
            (1, 1, 1, 1),
            _padding(size),
        )
        filter_gradient = tf.reshape(filter_gradient, [size, size, channels, 1])
        return input_gradient, tf.cast(filter_gradient, filters.dtype)

    return tf.nn.depthwise_conv2d(inputs, filters, (1, 1, 1, 1), "SAME"), gradient


def _padding(kernel_size):
    pad = kernel_size // 2
    return [[0, 0], [pad, pad], [pad, pad], [0, 0]]


def convolution(inputs, kernel):
    """Dense convolution of [B, H, W, in] with a kernel [k, k, in, out], k odd.

    On CPUs a matrix product is faster than TensorFlow's 1x1 convolution, forwards and backwards.
    """
    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    if kernel.shape[0] > 1 or tf.config.list_logical_devices("GPU"):
        # Not explicit padding, whose gradient is slow on CPUs.
        return tf.nn.conv2d(inputs, kernel, 1, "SAME")
    channels, filters = kernel.shape[2:]
    rows = tf.reshape(inputs, [-1, channels]) @ tf.reshape(kernel, [channels, filters])
    return tf.reshape(rows, [-1, *inputs.shape[1:3], filters])


def depthwise_convolution(inputs, filters):
    """Depthwise convolution of [B, H, W, C] with filters [k, k, C, 1], k odd, with gradients that are fast on CPUs."""
    if tf.config.list_logical_devices("GPU"):
        return tf.nn.depthwise_conv2d(inputs, filters, (1, 1, 1, 1), "SAME")
    return _depthwise(inputs, filters)


def add_bias(outputs, bias):
    """Adds a float32 bias [out] to outputs [..., out] of any floating type, with a gradient that sums in float32."""
    bias = tf.convert_to_tensor(bias)
    return tf.nn.bias_add(outputs, bias) if outputs.dtype == tf.float32 else _add_bias_to_half(outputs, bias)


@tf.custom_gradient
def _add_bias_to_half(outputs, bias):
    def gradient(upstream):
        return upstream, tf.reduce_sum(tf.cast(upstream, tf.float32), range(outputs.shape.rank - 1))

    return outputs + tf.cast(bias, outputs.dtype), gradient


class Conv2D(Layer):
    """2-D convolution with symmetric padding, weight-normalised by default.

    Args:
        filters: output channels.
        kernel_size: side of the square kernel, odd.
        strides: 1 or 2. Default 1.
        dilation: spacing of the kernel's taps. Default 1.
        groups: groups of input channels; `"depthwise"` for one group per channel. Default 1.
        use_bias: whether to add a bias. Default True.
        weight_norm: whether to normalise the kernel of each output channel to exp(log norm). Default True.
        log_norm_offset: added to the initial log norm. Default 0.
        data_dependent: whether to set log norm and bias from the first batch (see `INITIALIZING_FROM_DATA`), so that
            the output has mean 0 and standard deviation 1/5 in every channel. Default False.

    Input: [B, H, W, in]. Output: [B, H / strides, W / strides, filters], in the type of the effective kernel.
    The padding is kernel_size // 2 * dilation on every side for every stride, unlike TensorFlow's "SAME" at stride 2.
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
        """Whether each channel has its own kernel."""
        return self.groups == "depthwise"

    @property
    def stack_key(self):
        """Layers with equal keys can form one `KernelStack`."""
        return (tuple(self.kernel.shape), self.weight_norm, self.mask is not None)

    def build(self, input_shape):
        channels = input_shape[-1]
        in_per_group = 1 if self.depthwise else channels // self.groups
        fan_in = in_per_group * self.kernel_size**2
        shape = (self.kernel_size, self.kernel_size, in_per_group, self.filters)
        uniform = keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
        self.kernel = self.add_weight(shape=shape, initializer=uniform, name="kernel")
        if self.weight_norm:
            self.log_norm = self.add_weight(shape=(self.filters,), initializer=self._initial_log_norm, name="log_norm")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer=uniform.clone(), name="bias")

    def _initial_log_norm(self, shape, dtype=None):
        kernel = np.asarray(self.kernel)
        if self.mask is not None:
            kernel = kernel * self.mask
        norm = np.sqrt(np.sum(np.square(kernel), axis=(0, 1, 2)))
        return tf.constant(np.log(norm + _LOG_NORM_EPSILON) + self.log_norm_offset, dtype)

    def effective_kernel(self):
        """The masked and normalised kernel [kh, kw, in/groups, out] that the convolution applies."""
        given = given_kernel(self)
        if given is not None:
            return given
        kernel = self.kernel if self.mask is None else self.kernel * self.mask
        return normalize_kernel(kernel, self.log_norm) if self.weight_norm else tf.convert_to_tensor(kernel)

    def call(self, inputs):
        if self.data_dependent and INITIALIZING_FROM_DATA.get():
            self._initialize_from(inputs)
        outputs = self._convolve(inputs, self.effective_kernel())
        return add_bias(outputs, self.bias) if self.use_bias else outputs

    def _initialize_from(self, inputs):
        response = self._convolve(inputs, normalize_kernel(self.kernel.value, tf.zeros([self.filters])))
        (mean,) = mean_over_replicas([tf.reduce_mean(response, (0, 1, 2))])
        (variance,) = mean_over_replicas([tf.reduce_mean(tf.square(response - mean), (0, 1, 2))])
        scale = _INITIAL_STD_FACTOR * tf.sqrt(tf.maximum(variance, 1e-12))
        assign(self.log_norm, -tf.math.log(scale))
        assign(self.bias, -mean / scale)

    def _convolve(self, inputs, kernel):
        inputs = tf.cast(inputs, kernel.dtype)
        if self.depthwise:
            filters = tf.transpose(kernel, (0, 1, 3, 2))  # [kh, kw, channels, 1]
            if self.strides == 1:
                return depthwise_convolution(inputs, filters)
            # Not explicit padding of the convolution, on whose gradient TensorFlow's graph optimiser may crash.
            inputs = tf.pad(inputs, _padding(self.kernel_size))
            return tf.nn.depthwise_conv2d(inputs, filters, (1, self.strides, self.strides, 1), "VALID")
        dtype = ARITHMETIC_DTYPE.get()
        if dtype is not None:
            return tf.cast(self._dense(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), inputs.dtype)
        return self._dense(inputs, kernel)

    def _dense(self, inputs, kernel):
        strides, dilation = self.strides, self.dilation
        if dilation > 1 and strides == dilation:
            # All taps read pixels of the same phase, so this is a plain convolution of the decimated input.
            inputs, strides, dilation = inputs[:, ::strides, ::strides, :], 1, 1
        if dilation > 1:
            return tf.nn.convolution(inputs, kernel, strides=strides, padding="SAME", dilations=dilation)
        if self.groups > 1:
            # TensorFlow has no grouped convolution with gradients on the CPU.
            pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
            return tf.concat([tf.nn.conv2d(x, k, strides, _padding(self.kernel_size)) for x, k in pairs], axis=-1)
        if strides == 1:
            return convolution(inputs, kernel)
        return tf.nn.conv2d(inputs, kernel, strides, _padding(self.kernel_size))
