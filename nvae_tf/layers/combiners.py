"""Where the two towers and the latents meet (paper figure 2)."""

import keras
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer


@keras.saving.register_keras_serializable(package="nvae_tf")
class EncoderCombiner(Layer):
    """Encoder feature + 1x1 convolution of the decoder state; the input of a posterior.

    Args:
        filters: width of the encoder feature.

    Inputs: encoder feature [B, h, w, filters], decoder state [B, h, w, C]. Output: [B, h, w, filters].
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = Conv2D(filters, 1, name="conv")

    def build(self, feature_shape, state_shape):
        self.conv.build(state_shape)

    def call(self, feature, state):
        return feature + self.conv(state)


@keras.saving.register_keras_serializable(package="nvae_tf")
class DecoderCombiner(Layer):
    """1x1 convolution of [decoder state, z]; merges a latent into the top-down pass.

    Args:
        filters: width of the new state.

    Inputs: state [B, h, w, C], latent [B, h, w, latent_channels]. Output: [B, h, w, filters].
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = Conv2D(filters, 1, name="conv")

    def build(self, state_shape, latent_shape):
        self.conv.build((*state_shape[:-1], state_shape[-1] + latent_shape[-1]))

    def call(self, state, latent):
        return self.conv(tf.concat([state, tf.cast(latent, state.dtype)], axis=-1))
