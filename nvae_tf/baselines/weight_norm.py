"""Weight-normalised dense layers, convolutions and transposed convolutions with TensorFlow's own padding.

Weight normalisation (Salimans & Kingma 2016, arXiv 1602.07868) makes a kernel of a direction v and a gain g for each
output. Each baseline has its own form of it: a `WeightNorm`, which the layers take by its name in `RULES`.
"""

import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.conv import add_bias
from nvae_tf.layers.kernels import COMPUTE_DTYPE, INITIALIZING_FROM_DATA, given_kernel
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.replicas import assign, mean_over_replicas, num_replicas


class WeightNorm:
    """How v and g make a kernel, and how they start.

    Here w = g v / ||v||, with the norm over all axes but that of the outputs; v starts as N(0, 0.05^2) and g as 1.

    Attributes:
        data_dependent: whether `start` sets g and the bias from the first batch (see `INITIALIZING_FROM_DATA`).
        moments_before_crop: whether the moments for `start` include the border that "SAME" crops from the output of a
            transposed convolution.
    """

    data_dependent = False
    moments_before_crop = False

    def initial_v(self, fan_in):
        """Keras initialiser of v, where each output has `fan_in` weights."""
        return keras.initializers.RandomNormal(stddev=0.05)

    def initial_g(self, v, output_axis):
        """First value [out] of g for the array v, which no mask has been applied to."""
        return np.ones(v.shape[output_axis])

    def initial_bias(self, fan_in):
        """Keras initialiser of the bias."""
        return keras.initializers.Zeros()

    def direction(self, v, output_axis):
        """Kernel of gain 1."""
        axes = [axis for axis in range(v.shape.rank) if axis != output_axis % v.shape.rank]
        return v * tf.math.rsqrt(tf.reduce_sum(tf.square(v), axes, keepdims=True))

    def gain(self, g):
        """Factor [out] of the direction."""
        return g

    def start(self, variance, count):
        """Values [out] of g and of the gain in the first batch, from the variance [out] of `count` responses to v."""
        raise NotImplementedError


class PixelSNAILWeightNorm(WeightNorm):
    """That of the priors of VQ-VAE-2: kernel and bias start as U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

    def initial_v(self, fan_in):
        return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)

    initial_bias = initial_v

    def initial_g(self, v, output_axis):
        return np.sqrt(np.sum(np.square(np.moveaxis(v, output_axis, -1).reshape(-1, v.shape[output_axis])), axis=0))


class BIVAWeightNorm(WeightNorm):
    """That of BIVA, whose outputs have mean 0 and standard deviation 0.01 in the first batch."""

    data_dependent = True
    moments_before_crop = True

    def start(self, variance, count):
        gain = 0.01 * tf.math.rsqrt(variance * count / tf.maximum(count - 1.0, 1.0) + 1e-8)
        return gain, gain


class IAFVAEWeightNorm(WeightNorm):
    """That of IAF-VAE: w = exp(g) v / ||v||, where transposed convolutions have one norm for each input.

    The first batch gets the gain that makes its standard deviation `std`, but g only a third of the logarithm of it.
    """

    data_dependent = True

    def __init__(self, std):
        self.std = std

    def initial_g(self, v, output_axis):
        return np.zeros(v.shape[output_axis])

    def direction(self, v, output_axis):
        return v * tf.math.rsqrt(tf.maximum(tf.reduce_sum(tf.square(v), (0, 1, 2), keepdims=True), 1e-12))

    def gain(self, g):
        return tf.exp(g)

    def start(self, variance, count):
        gain = self.std * tf.math.rsqrt(variance + 1e-10)
        return tf.math.log(gain) / 3.0, gain


RULES = {
    "pixelsnail": PixelSNAILWeightNorm(),
    "biva": BIVAWeightNorm(),
    "iaf_vae": IAFVAEWeightNorm(std=0.1),
    "iaf_vae_masked": IAFVAEWeightNorm(std=1.0),
}


class _Normalized(Layer):
    """Base of the layers: an affine map by a kernel made of v, g and, in subclasses that set it, a mask of v."""

    output_axis = -1
    mask = None

    def __init__(self, filters, rule, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.rule = rule
        self.use_bias = use_bias

    def _add_weights(self, shape):
        rule, fan_in, outputs = RULES[self.rule], int(np.prod(shape)) // self.filters, (self.filters,)
        self.v = self.add_weight(shape=shape, initializer=rule.initial_v(fan_in), name="v")
        self.g = self.add_weight(shape=outputs, initializer=self._initial_g, name="g")
        if self.use_bias:
            self.bias = self.add_weight(shape=outputs, initializer=rule.initial_bias(fan_in), name="bias")

    def _initial_g(self, shape, dtype=None):
        return tf.constant(RULES[self.rule].initial_g(np.asarray(self.v), self.output_axis), dtype)

    def _direction(self):
        v = tf.convert_to_tensor(self.v)
        return RULES[self.rule].direction(v if self.mask is None else v * self.mask, self.output_axis)

    def kernel(self):
        """The kernel that the layer applies, float32."""
        gain = RULES[self.rule].gain(tf.convert_to_tensor(self.g))
        return self._direction() * (gain if self.output_axis == -1 else gain[:, tf.newaxis])

    def call(self, inputs):
        inputs = tf.cast(inputs, COMPUTE_DTYPE.get())
        if RULES[self.rule].data_dependent and INITIALIZING_FROM_DATA.get():
            return self._start_from(inputs)
        kernel = given_kernel(self)
        kernel = self.kernel() if kernel is None else kernel
        outputs = self._apply(inputs, tf.cast(kernel, inputs.dtype))
        return add_bias(outputs, self.bias) if self.use_bias else outputs

    def _start_from(self, inputs):
        """Sets g and the bias from the moments of the response to v, and returns the normalised response."""
        rule, direction = RULES[self.rule], tf.cast(self._direction(), inputs.dtype)
        response = tf.cast(self._apply(inputs, direction), tf.float32)
        measured = tf.cast(self._uncropped(inputs, direction), tf.float32) if rule.moments_before_crop else response
        measured = tf.reshape(measured, [-1, self.filters])
        (mean,) = mean_over_replicas([tf.reduce_mean(measured, 0)])
        (variance,) = mean_over_replicas([tf.reduce_mean(tf.square(measured - mean), 0)])
        g, gain = rule.start(variance, tf.cast(num_replicas() * tf.shape(measured)[0], tf.float32))
        assign(self.g, g)
        if self.use_bias:
            assign(self.bias, -mean * gain)
        return tf.cast((response - mean) * gain, inputs.dtype)

    def _apply(self, inputs, kernel):
        raise NotImplementedError

    def _uncropped(self, inputs, kernel):
        return self._apply(inputs, kernel)


class NormDense(_Normalized):
    """Dense layer with v [in, filters].

    Args:
        filters: number of outputs.
        rule: name of a `WeightNorm` in `RULES`.
        use_bias: whether to add a bias. Default True.

    Input: [..., in]. Output: [..., filters], in the type `COMPUTE_DTYPE`.
    """

    def build(self, input_shape):
        self._add_weights((input_shape[-1], self.filters))

    def _apply(self, inputs, kernel):
        return tf.matmul(inputs, kernel)


class NormConv2D(_Normalized):
    """Convolution with v [kh, kw, in, filters].

    Args:
        filters: output channels.
        kernel_size: side of the kernel, or its height and width.
        rule: name of a `WeightNorm` in `RULES`.
        strides: 1 or 2. Default 1.
        padding: `"SAME"` or `"VALID"`, as in TensorFlow: `"SAME"` pads more at the end where the padding is odd.
            Default `"SAME"`.
        use_bias: whether to add a bias. Default True.

    Input: [B, H, W, in]. Output: [B, ceil(H / strides), ceil(W / strides), filters] with `"SAME"`, in the type
    `COMPUTE_DTYPE`. A subclass may set `mask`, which multiplies v before the norm.
    """

    def __init__(self, filters, kernel_size, rule, strides=1, padding="SAME", use_bias=True, **kwargs):
        super().__init__(filters, rule, use_bias, **kwargs)
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding

    def build(self, input_shape):
        size = self.kernel_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        self._add_weights((*sides, input_shape[-1], self.filters))

    def _apply(self, inputs, kernel):
        # TensorFlow's own gradients are faster here than those of `nvae_tf.layers.conv.convolution`, also on CPUs.
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding)


class NormConv2DTranspose(_Normalized):
    """Transposed convolution with v [k, k, filters, in]: the gradient of a strided `"SAME"` convolution by its input.

    Args:
        filters: output channels.
        kernel_size: side of the kernel, at least `strides`.
        rule: name of a `WeightNorm` in `RULES`.
        strides: factor of the resolution. Default 2.
        use_bias: whether to add a bias. Default True.

    Input: [B, H, W, in]. Output: [B, H * strides, W * strides, filters], in the type `COMPUTE_DTYPE`.
    """

    output_axis = -2

    def __init__(self, filters, kernel_size, rule, strides=2, use_bias=True, **kwargs):
        super().__init__(filters, rule, use_bias, **kwargs)
        self.kernel_size = kernel_size
        self.strides = strides

    def build(self, input_shape):
        self._add_weights((self.kernel_size, self.kernel_size, self.filters, input_shape[-1]))

    def _apply(self, inputs, kernel):
        return self._transposed(inputs, kernel, self.strides, "SAME")

    def _uncropped(self, inputs, kernel):
        return self._transposed(inputs, kernel, self.kernel_size, "VALID")

    def _transposed(self, inputs, kernel, last, padding):
        # The last of n rows ends at row (n - 1) * strides + `last` of the output.
        sides = [(side - 1) * self.strides + last for side in inputs.shape[1:3]]
        shape = tf.stack([tf.shape(inputs)[0], *sides, self.filters])
        return tf.nn.conv2d_transpose(inputs, kernel, shape, self.strides, padding)
