"""Volume-preserving inverse autoregressive flows of the posteriors (paper section 3.2).

`FlowStep` holds the weights as Keras layers; `FlowStep.bijector` wraps them as a TFP bijector.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.layers.layer import Layer
from nvae_tf.layers.masked_conv import MaskedConv2D

_HIDDEN_FACTOR = 6
# The last convolution starts with a tenth of the usual norm: log(0.1), rounded as in the original.
_OUTPUT_LOG_NORM_OFFSET = -2.303


class AutoregressiveNet(Layer):
    """Shift mu(z) of each latent, which depends on the latents before it in raster order, then channel order.

    Masked 3x3 (strict) -> ELU -> masked depthwise 5x5 -> ELU -> ELU -> masked 1x1.

    Args:
        latent_channels: channels of z.
        mirrored: whether to reverse the raster order. Default False.

    Input and output: [B, h, w, latent_channels].
    """

    def __init__(self, latent_channels, mirrored=False, **kwargs):
        super().__init__(**kwargs)
        hidden = _HIDDEN_FACTOR * latent_channels
        self.conv_in = MaskedConv2D(hidden, 3, strict=True, mirrored=mirrored, use_bias=False, name="conv_in")
        self.conv_hidden = MaskedConv2D(
            hidden, 5, mirrored=mirrored, groups="depthwise", use_bias=False, name="conv_hidden"
        )
        self.conv_out = MaskedConv2D(
            latent_channels, 1, mirrored=mirrored, log_norm_offset=_OUTPUT_LOG_NORM_OFFSET, name="conv_out"
        )

    def build(self, input_shape):
        hidden_shape = (*input_shape[:-1], self.conv_in.filters)
        self.conv_in.build(input_shape)
        self.conv_hidden.build(hidden_shape)
        self.conv_out.build(hidden_shape)

    def call(self, z):
        x = self.conv_hidden(tf.nn.elu(self.conv_in(z)))
        return self.conv_out(tf.nn.elu(tf.nn.elu(x)))


class AutoregressiveShift(tfp.bijectors.Bijector):
    """z <- z - net(z) with a strictly causal net; the Jacobian is unit triangular, so its log determinant is 0."""

    def __init__(self, net, name="autoregressive_shift"):
        parameters = dict(locals())
        super().__init__(
            forward_min_event_ndims=3, is_constant_jacobian=True, validate_args=False, parameters=parameters, name=name
        )
        self._net = net

    def _forward(self, z):
        return z - tf.cast(self._net(z), z.dtype)

    def _inverse(self, y):
        # Solve z = y + mu(z) by fixed-point iteration. mu is strictly causal, so each round settles at least one more
        # latent, and the iteration ends after at most h * w * C rounds, usually far fewer.
        rounds = tf.reduce_prod(tf.shape(y)[-3:])

        def step(i, z, _):
            following = y + tf.cast(self._net(z), y.dtype)
            return i + 1, following, tf.reduce_any(tf.not_equal(following, z))

        return tf.while_loop(lambda i, z, moving: moving & (i < rounds), step, (0, y, True))[1]

    def _forward_log_det_jacobian(self, z):
        return tf.zeros([], z.dtype)

    def _inverse_log_det_jacobian(self, y):
        return tf.zeros([], y.dtype)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}


class FlowStep(Layer):
    """Two autoregressive nets in sequence, the second in the reversed raster order.

    Input and output: [B, h, w, latent_channels].
    """

    def __init__(self, latent_channels, **kwargs):
        super().__init__(**kwargs)
        self.net = AutoregressiveNet(latent_channels, name="net")
        self.mirrored_net = AutoregressiveNet(latent_channels, mirrored=True, name="mirrored_net")

    def build(self, input_shape):
        self.net.build(input_shape)
        self.mirrored_net.build(input_shape)

    @property
    def bijector(self):
        """This step as a TFP bijector with events [h, w, latent_channels]."""
        # Chain applies its last member first.
        return tfp.bijectors.Chain([AutoregressiveShift(self.mirrored_net), AutoregressiveShift(self.net)])

    def call(self, z):
        return self.bijector.forward(z)
