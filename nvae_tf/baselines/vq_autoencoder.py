"""The encoders, quantisers and decoders of VQ-VAE-2; layers have the widths and names of the common PyTorch program."""

import math

import keras
import tensorflow as tf

from nvae_tf.baselines.quantizer import Quantizer
from nvae_tf.layers.conv import add_bias, convolution
from nvae_tf.layers.layer import Layer

LEVEL_NAMES = {2: ("top", "bottom"), 3: ("top", "mid", "bottom")}  # by the number of levels


class _Plain(Layer):
    """Base of the convolutions: kernel and bias start as U(-1/sqrt(f), 1/sqrt(f)), where f is k^2 kernel.shape[2]."""

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides

    def _add_weights(self, *channels):
        limit = 1.0 / math.sqrt(self.kernel_size**2 * channels[0])
        uniform = keras.initializers.RandomUniform(-limit, limit)
        sides = (self.kernel_size, self.kernel_size)
        self.kernel = self.add_weight(shape=(*sides, *channels), initializer=uniform, name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer=uniform.clone(), name="bias")

    def call(self, inputs):
        return add_bias(self._apply(inputs, tf.cast(self.kernel, inputs.dtype)), self.bias)


class PlainConv2D(_Plain):
    """Convolution with kernel [k, k, in, filters] and TensorFlow's padding `"SAME"`."""

    def build(self, input_shape):
        self._add_weights(input_shape[-1], self.filters)

    def _apply(self, inputs, kernel):
        if self.strides == 1:
            return convolution(inputs, kernel)
        return tf.nn.conv2d(inputs, kernel, self.strides, "SAME")


class PlainConv2DTranspose(_Plain):
    """Transposed convolution with kernel [4, 4, filters, in], which doubles the size of its input."""

    def __init__(self, filters, **kwargs):
        super().__init__(filters, 4, 2, **kwargs)

    def build(self, input_shape):
        self._add_weights(self.filters, input_shape[-1])

    def _apply(self, inputs, kernel):
        batch_size, height, width = tf.shape(inputs)[0], *inputs.shape[1:3]
        shape = tf.stack([batch_size, 2 * height, 2 * width, self.filters])
        return tf.nn.conv2d_transpose(inputs, kernel, shape, self.strides)


class ReLUResidual(Layer):
    """x + 1x1 convolution of ReLU of 3x3 convolution of ReLU of x, with `filters` channels between the convolutions."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        self.conv3 = PlainConv2D(self.filters, 3, name="conv3")
        self.conv1 = PlainConv2D(input_shape[-1], 1, name="conv1")
        self.conv3.build(input_shape)
        self.conv1.build((*input_shape[:-1], self.filters))

    def call(self, inputs):
        return inputs + self.conv1(tf.nn.relu(self.conv3(tf.nn.relu(inputs))))


class _Tower(Layer):
    """Base of encoder and decoder, from the widths of a `VQVAE2Config`.

    Args:
        config: `VQVAE2Config`.
        num_steps: number of halvings or doublings of the size, 1 to 3.
    """

    def __init__(self, config, num_steps, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.num_steps = config.channels, num_steps
        self.conv = PlainConv2D(config.channels, 3, name="conv")
        self.residuals = [ReLUResidual(config.residual_channels, name=f"res{i}") for i in range(config.residual_blocks)]

    def _build_residuals(self, in_channels):
        self.conv.build((None, None, None, in_channels))
        for residual in self.residuals:
            residual.build((None, None, None, self.channels))

    def _residuals(self, x):
        x = self.conv(x)
        for residual in self.residuals:
            x = residual(x)
        return tf.nn.relu(x)

    def _widths(self):
        """Widths at the sizes between images and codes, finest first: C/2, C, C."""
        return [self.channels // 2, self.channels, self.channels][: self.num_steps]


class CodeEncoder(_Tower):
    """Images or finer features to features [B, H / 2^num_steps, W / 2^num_steps, channels]."""

    def build(self, input_shape):
        self.downs = [PlainConv2D(width, 4, 2, name=f"down{i}") for i, width in enumerate(self._widths(), 1)]
        for down, width in zip(self.downs, [input_shape[-1], *self._widths()], strict=False):
            down.build((None, None, None, width))
        self._build_residuals(self._widths()[-1])

    def call(self, inputs):
        x = inputs
        for down in self.downs:
            x = tf.nn.relu(down(x))
        return self._residuals(x)


class CodeDecoder(_Tower):
    """Quantised vectors to a map of 2^num_steps times their size, with `filters` channels."""

    def __init__(self, config, num_steps, filters, **kwargs):
        super().__init__(config, num_steps, **kwargs)
        self.filters = filters

    def build(self, input_shape):
        self._build_residuals(input_shape[-1])
        outputs = [*reversed(self._widths()[:-1]), self.filters]
        self.ups = [PlainConv2DTranspose(width, name=f"up{i}") for i, width in enumerate(outputs, 1)]
        for up, width in zip(self.ups, [self.channels, *outputs], strict=False):
            up.build((None, None, None, width))

    def call(self, inputs):
        x = self._residuals(inputs)
        for up in self.ups[:-1]:
            x = tf.nn.relu(up(x))
        return self.ups[-1](x)


class CodeAutoencoder(Layer):
    """Images to codes of every level and back; lists have an entry for each level, coarsest first.

    Each level is quantised given the coarser codes: what its vectors are computed from are the features of its encoder
    and the map that the decoder of the level above has made of the coarser codes.

    Args:
        config: `VQVAE2Config`.
        filters: channels of the output.
    """

    def __init__(self, config, filters, **kwargs):
        super().__init__(**kwargs)
        self.image_channels, self.channels, self.code_size = config.image_channels, config.channels, config.code_size
        names = LEVEL_NAMES[config.num_levels]
        steps = [1] * (config.num_levels - 1) + [config.bottom_stride.bit_length() - 1]
        self.encoders = [
            CodeEncoder(config, count, name=f"encoder_{name}") for name, count in zip(names, steps, strict=True)
        ]
        self.projections = [PlainConv2D(config.code_size, 1, name=f"project_{name}") for name in names]
        self.quantizers = [Quantizer(config.num_codes, name=name) for name in names]
        self.decoders = [CodeDecoder(config, 1, config.code_size, name=f"decoder_{name}") for name in names[:-1]]
        self.decoders.append(CodeDecoder(config, steps[-1], filters, name="decoder"))
        # Those that bring the vectors of each coarser level to the size of a level, from that of the level above.
        self.upsamplers = [
            [
                PlainConv2DTranspose(
                    config.code_size, name=f"upsample_{source}" + ("" if source == above else f"_to_{name}")
                )
                for source in coarser
            ]
            for coarser, above, name in ((names[:level], names[level - 1], name) for level, name in enumerate(names))
        ]

    def build(self, input_shape=None):
        for level, encoder in enumerate(self.encoders):
            is_last = level == len(self.encoders) - 1
            encoder.build((None, None, None, self.image_channels if is_last else self.channels))
        decoded = 0
        for level, (projection, quantizer, decoder) in enumerate(
            zip(self.projections, self.quantizers, self.decoders, strict=True)
        ):
            projection.build((None, None, None, decoded + self.channels))
            quantizer.build((None, None, None, self.code_size))
            for up in self.upsamplers[level]:
                up.build((None, None, None, self.code_size))
            decoder.build((None, None, None, (level + 1) * self.code_size))
            decoded = self.code_size

    def features(self, images):
        """Features of each level's encoder, for images [B, H, W, C] in [-1, 1]."""
        features = [self.encoders[-1](images)]
        for encoder in reversed(self.encoders[:-1]):
            features.insert(0, encoder(features[0]))
        return features

    def project(self, level, feature, coarser):
        """What the quantiser of a level gets, from its feature and the joined vectors of the coarser levels."""
        if level:
            decoded = self.decoders[level - 1](tf.concat(coarser, axis=-1))
            feature = tf.concat([decoded, feature], axis=-1)
        return self.projections[level](feature)

    def encode(self, images, training=False):
        """`Quantized` of each level, for images [B, H, W, C] in [-1, 1]."""
        levels, joined = [], []
        for level, feature in enumerate(self.features(images)):
            levels.append(self.quantizers[level](self.project(level, feature, joined), training=training))
            joined = self._join(level, joined, levels[-1].vectors)
        return levels

    def decode(self, vectors):
        """The output [B, H, W, filters] for the quantised vectors [B, h, w, D] of each level."""
        joined = []
        for level, new in enumerate(vectors):
            joined = self._join(level, joined, new)
        return self.decoders[-1](tf.concat(joined, axis=-1))

    def _join(self, level, coarser, vectors):
        """The vectors of all levels up to this one, at its size."""
        return [*(up(one) for up, one in zip(self.upsamplers[level], coarser, strict=True)), vectors]
