"""A latent group at inference: prior, posterior, flow and merge, folded."""

import typing

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.normal import BOUND, MIN_SCALE
from nvae_tf.inference.blocks import Convolution, InferenceCell, apply, channels
from nvae_tf.inference.folding import Linear

tfd = tfp.distributions


class GroupTerms(typing.NamedTuple):
    """What a group says of a batch of images.

    Attributes:
        latent: z after the flows [B, h, w, latent_channels].
        noise: the standard normal from which the prior makes this latent at temperature 1, of the same shape.
        kl: KL(q || p) [B], nats; with flows log q - log p at the sample.
    """

    latent: tf.Tensor
    noise: tf.Tensor
    kl: tf.Tensor


class Head(tf.Module):
    """Convolution that gives a Normal's parameters, divided by the bound of the soft clamp already.

    Args:
        linear: `Linear` of the training model's head.

    Input: [B, h, w, C]. Output: (loc, log_scale) / 5, [B, h, w, latent_channels] each.
    """

    def __init__(self, linear):
        super().__init__()
        self._channels = linear.kernel.shape[3] // 2
        self.conv = Convolution(linear.times(1.0 / BOUND))

    def __call__(self, x):
        both = self.conv(x)
        return channels(both, 0, self._channels), channels(both, self._channels, 2 * self._channels)


def _bounded(parameters):
    """(loc, scale) of what heads give: `distributions.normal.latent_normal`."""
    loc, log_scale = parameters
    return BOUND * tf.tanh(loc), tf.exp(BOUND * tf.tanh(log_scale)) + MIN_SCALE


class FlowNet(tf.Module):
    """`AutoregressiveNet` with its masks evaluated; z -> z - mu(z)."""

    def __init__(self, net, folding):
        super().__init__()
        self.convolutions = [Convolution(folding.linear(conv)) for conv in (net.conv_in, net.conv_hidden, net.conv_out)]

    def __call__(self, z):
        first, hidden, last = self.convolutions
        x = hidden(tf.nn.elu(first(z)))
        return z - last(tf.nn.elu(tf.nn.elu(x)))


class InferenceGroup(tf.Module):
    """A `LatentGroup`, folded.

    Args:
        group: `LatentGroup`.
        start: learned start [h, w, C] that group 0 is merged into, or None.
        folding: `Folding`.
    """

    def __init__(self, group, start, folding):
        super().__init__()
        self._residual = group.residual_posterior
        self._first = group.place.first
        self.cells = [InferenceCell(cell, folding) for cell in group.cells]
        self.prior_head = None if self._first else Head(folding.linear(group.prior_head))
        self.combiner = None if self._first else Convolution(folding.linear(group.encoder_combiner.conv))
        self.posterior_head = Head(folding.linear(group.posterior_head))
        self.flows = [FlowNet(net, folding) for flow in group.flows for net in (flow.net, flow.mirrored_net)]
        merge = folding.linear(group.merge.conv if group.merge_state else group.merge)
        self._concatenates = group.merge_state and not self._first
        self.start = None
        if self._first and start is not None:
            # The start is a constant: its part of the merge is one too.
            split = start.shape[-1]
            self.start = tf.Variable(_constant_part(merge, start, split), trainable=False)
            merge = Linear(merge.kernel[:, :, split:])
            folding.counts["learned start merged into a constant"] += 1
        self.merge = Convolution(merge)

    def _merge(self, state, latent):
        if self.start is not None:
            return self.merge(latent) + self.start
        return self.merge(tf.concat([state, latent], axis=-1)) if self._concatenates else self.merge(latent)

    def _prior(self, state):
        return self.prior_head(tf.nn.elu(state))

    def generate(self, state, noise, temperature=None):
        """Draws z from the prior and merges it; returns the new state.

        Args:
            state: [B, h, w, C]; None for group 0.
            noise: standard normal [B, h, w, latent_channels]; None for the prior's mean.
            temperature: factor of the prior's scale [B, 1, 1, 1], or None for 1.
        """
        state = apply(self.cells, state)
        if self._first:
            loc, scale = 0.0, 1.0 + MIN_SCALE
        else:
            loc, scale = _bounded(self._prior(state))
        if noise is None:
            latent = loc
        else:
            latent = loc + scale * (noise if temperature is None else noise * temperature)
        return self._merge(state, latent)

    def decode(self, state, latent):
        """Merges a given latent [B, h, w, latent_channels] into the state [B, h, w, C], None for group 0."""
        return self._merge(apply(self.cells, state), latent)

    def infer(self, state, feature, noise=None, temperature=None):
        """Draws z from the posterior and merges it.

        Args:
            state: [B, h, w, C]; None for group 0.
            feature: the encoder's for this group [B, h, w, encoder width].
            noise: standard normal [B, h, w, latent_channels]; None for the posterior's mean.
            temperature: factor of the posterior's scale [B, 1, 1, 1], or None for 1.

        Returns:
            The new state and the group's `GroupTerms`.
        """
        state = apply(self.cells, state)
        if self._first:
            prior_parameters, prior = (0.0, 0.0), (0.0, 1.0 + MIN_SCALE)
        else:
            prior_parameters = self._prior(state)
            prior = _bounded(prior_parameters)
            feature = self.combiner(state, plus=feature)
        parameters = self.posterior_head(feature)
        if self._residual:
            parameters = [one + other for one, other in zip(parameters, prior_parameters, strict=True)]
        posterior = tfd.Normal(*_bounded(parameters))
        latent = sample = posterior.loc
        if noise is not None:
            latent = sample = posterior.loc + posterior.scale * (noise if temperature is None else noise * temperature)
        for flow in self.flows:
            latent = flow(latent)
        prior = tfd.Normal(*prior)
        kl = posterior.log_prob(sample) - prior.log_prob(latent) if self.flows else _kl(posterior, prior)
        terms = GroupTerms(latent, (latent - prior.loc) / prior.scale, tf.reduce_sum(kl, axis=(1, 2, 3)))
        return self._merge(state, latent), terms


def _kl(posterior, prior):
    """KL(posterior || prior) of `tfd.Normal`s, nats; TFP's own has an expm1, which ONNX lacks."""
    ratio = posterior.scale / prior.scale
    distance = tf.square((posterior.loc - prior.loc) / prior.scale)
    return 0.5 * (distance + (ratio - 1.0) * (ratio + 1.0)) - tf.math.log(ratio)


def _constant_part(merge, start, split):
    """Merge [1, h, w, C] of the state alone."""
    start = np.asarray(start, np.float64)
    return (start @ merge.kernel[0, 0, :split] + merge.bias)[np.newaxis].astype(np.float32)
