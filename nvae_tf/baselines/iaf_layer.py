"""One layer of latents of the IAF-VAE: its part of the bottom-up and of the top-down pass."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.baselines.weight_norm import NormConv2D, NormConv2DTranspose
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.masked_conv import causal_mask
from nvae_tf.layers.resample import upsample_nearest

tfd = tfp.distributions

# Factor of the residual branches, and of the shift and the log scale of the flow.
BRANCH_SCALE = 0.1


class LayerTerms(typing.NamedTuple):
    """Terms of the objective for one layer, in nats, its latent, and the distributions that it comes from.

    Attributes:
        latent: z after the flow [B, h, w, latent_channels].
        kl_per_channel: log q - log p at the sample, summed over h and w [B, latent_channels]; may be negative.
        log_q: log density of the posterior at the latent [B].
        log_p: log density of the prior at the latent [B].
        prior: `tfd.Normal` of the prior [B, h, w, latent_channels].
        posterior: `tfd.Normal` of the posterior before the flow [B, h, w, latent_channels].
        sample: sample of `posterior` [B, h, w, latent_channels].
        shift, log_scale: of the flow [B, h, w, latent_channels]; None without one.
    """

    latent: tf.Tensor
    kl_per_channel: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    prior: tfd.Normal
    posterior: tfd.Normal
    sample: tf.Tensor
    shift: tf.Tensor | None
    log_scale: tf.Tensor | None


class MaskedNormConv2D(NormConv2D):
    """3x3 `NormConv2D` whose outputs see the pixels below and right of their own in raster order.

    Of the channels at its own pixel, an output sees those before it, and its own unless `strict`; see `causal_mask`.

    Args:
        strict: whether outputs do not see the input of their own place. Default False.

    Input: [B, H, W, in]. Output: [B, H, W, filters].
    """

    def __init__(self, filters, strict=False, **kwargs):
        super().__init__(filters, 3, "iaf_vae_masked", **kwargs)
        self.strict = strict

    def build(self, input_shape):
        self.mask = causal_mask(3, input_shape[-1], self.filters, self.strict, mirrored=True)
        super().build(input_shape)


class AutoregressiveNetwork(Layer):
    """Shift and log scale of the flow, from z and a context (Kingma et al. 2016, arXiv 1606.04934, section 3).

    Two hidden masked convolutions, the first of which takes the context after its bias, and a strict one for each
    output. All have the same order of pixels and channels.

    Args:
        channels: width of the hidden convolutions.
        latent_channels: channels of z; a divisor or a multiple of `channels`.

    Input: z [B, h, w, latent_channels] and the context [B, h, w, channels]. Output: two of the shape of z, float32.
    """

    def __init__(self, channels, latent_channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.latent_channels = latent_channels
        self.hidden_0 = MaskedNormConv2D(channels, name="hidden_0")
        self.hidden_1 = MaskedNormConv2D(channels, name="hidden_1")
        self.out_mean = MaskedNormConv2D(latent_channels, strict=True, name="out_mean")
        self.out_logsd = MaskedNormConv2D(latent_channels, strict=True, name="out_logsd")

    def build(self, input_shape):
        self.hidden_0.build((*input_shape[:-1], self.latent_channels))
        for conv in (self.hidden_1, self.out_mean, self.out_logsd):
            conv.build((*input_shape[:-1], self.channels))

    def call(self, inputs, context):
        hidden = tf.nn.elu(self.hidden_0(tf.cast(inputs, context.dtype)) + context)
        hidden = tf.nn.elu(self.hidden_1(hidden))
        return [BRANCH_SCALE * tf.cast(conv(hidden), tf.float32) for conv in (self.out_mean, self.out_logsd)]


class LatentLayer(Layer):
    """A residual block of the bottom-up pass, and one of the top-down pass with a latent.

    The posterior's mean and log standard deviation are the sums of what the two passes contribute, and so is the
    context of the flow. Reference: Kingma et al. 2016, arXiv 1606.04934, sections 3 and 4 (bidirectional inference).

    Args:
        channels, latent_channels, iaf: see `IAFVAEConfig`.
        resamples: whether the layer halves the resolution in the bottom-up pass and doubles it in the top-down pass.
    """

    def __init__(self, channels, latent_channels, iaf, resamples, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.latent_channels = latent_channels
        self.resamples = resamples
        # The last piece of each continues the residual branch; those before it belong to the posterior and the prior.
        self._up_pieces = [latent_channels] * 2 + [channels] * (2 if iaf else 1)
        self._down_pieces = [latent_channels] * 4 + [channels] * (2 if iaf else 1)
        self.up_conv1 = NormConv2D(sum(self._up_pieces), 3, "iaf_vae", 2 if resamples else 1, name="up_conv1")
        self.up_conv3 = NormConv2D(channels, 3, "iaf_vae", name="up_conv3")
        self.down_conv1 = NormConv2D(sum(self._down_pieces), 3, "iaf_vae", name="down_conv1")
        self.iaf = AutoregressiveNetwork(channels, latent_channels, name="iaf") if iaf else None
        if resamples:
            self.merge = NormConv2DTranspose(channels, 3, "iaf_vae", name="down_deconv2")
        else:
            self.merge = NormConv2D(channels, 3, "iaf_vae", name="down_conv2")

    def build(self, input_shape):
        """Builds the convolutions; `input_shape` is that of the top-down state."""
        shape = tuple(input_shape[:-1])
        for conv in (self.up_conv1, self.up_conv3, self.down_conv1):
            conv.build((*shape, self.channels))
        if self.iaf is not None:
            self.iaf.build((*shape, self.latent_channels))
        self.merge.build((*shape, self.latent_channels + self.channels))

    def up(self, state):
        """Bottom-up pass: the new state, and what the posterior takes from it [B, h, w, C]."""
        pieces = self.up_conv1(tf.nn.elu(state))
        for_posterior, branch = tf.split(pieces, [sum(self._up_pieces[:-1]), self.channels], axis=-1)
        if self.resamples:
            state = state[:, ::2, ::2]
        return state + BRANCH_SCALE * self.up_conv3(tf.nn.elu(branch)), for_posterior

    def infer(self, state, feature, noise):
        """Top-down pass with a sample of the posterior.

        Args:
            state: [B, h, w, channels].
            feature: second result of `up`.
            noise: standard normal [B, h, w, latent_channels].

        Returns:
            The new state and the layer's `LayerTerms`.
        """
        prior, (mean, log_std, *down_context), branch = self._down(state)
        up_mean, up_log_std, *up_context = tf.split(feature, self._up_pieces[:-1], axis=-1)
        posterior = _normal(mean, log_std, up_mean, up_log_std)
        # The batch that sets the weights passes through with samples of the prior.
        source = prior if INITIALIZING_FROM_DATA.get() else posterior
        sample = latent = source.loc + source.scale * noise
        log_q = posterior.log_prob(sample)
        shift = log_scale = None
        if self.iaf is not None:
            shift, log_scale = self.iaf(sample, up_context[0] + down_context[0])
            latent = (sample - shift) * tf.exp(-log_scale)
            log_q += log_scale
        log_p = prior.log_prob(latent)
        terms = LayerTerms(
            latent=latent,
            kl_per_channel=tf.reduce_sum(log_q - log_p, axis=(1, 2)),
            log_q=tf.reduce_sum(log_q, axis=(1, 2, 3)),
            log_p=tf.reduce_sum(log_p, axis=(1, 2, 3)),
            prior=prior,
            posterior=posterior,
            sample=sample,
            shift=shift,
            log_scale=log_scale,
        )
        return self._merge(state, branch, latent), terms

    def generate(self, state, noise, temperature=1.0):
        """Top-down pass with a sample of the prior, whose scale is multiplied by `temperature`; see `infer`."""
        prior, _, branch = self._down(state)
        return self._merge(state, branch, prior.loc + temperature * prior.scale * noise)

    def decode(self, state, latent):
        """Top-down pass with a given latent [B, h, w, latent_channels]; see `infer`."""
        _, _, branch = self._down(state)
        return self._merge(state, branch, latent)

    def _down(self, state):
        """Prior, what the posterior takes from the top-down pass, and the residual branch."""
        pieces = tf.split(self.down_conv1(tf.nn.elu(state)), self._down_pieces, axis=-1)
        return _normal(*pieces[:2]), pieces[2:-1], pieces[-1]

    def _merge(self, state, branch, latent):
        merged = tf.nn.elu(tf.concat([tf.cast(latent, branch.dtype), branch], axis=-1))
        if self.resamples:
            state = upsample_nearest(state)
        return state + BRANCH_SCALE * self.merge(merged)


def _normal(*parts):
    """`tfd.Normal` in float32 whose mean and log scale are sums: `parts` are a mean, a log scale, a mean..."""
    parts = [tf.cast(part, tf.float32) for part in parts]
    return tfd.Normal(tf.add_n(parts[::2]), tf.exp(tf.add_n(parts[1::2])))
