"""A latent group at inference: prior, posterior, flow and merge, folded."""

import dataclasses

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.normal import BOUND, MIN_SCALE
from nvae_tf.inference.blocks import Convolution, InferenceCell, apply, channels, constant_variable

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class GroupTerms:
    """Latents of a group for a batch of images; the properties add their operations only where they are read.

    Attributes:
        latent: z after the flows [B, h, w, latent_channels].
        sample: z before the flows, of the same shape.
        posterior, prior: `tfd.Normal`s of the sample and of the latent.
        has_flows: whether latent and sample differ.
    """

    latent: tf.Tensor
    sample: tf.Tensor
    posterior: tfd.Normal
    prior: tfd.Normal
    has_flows: bool

    @property
    def noise(self):
        """The standard normal from which the prior produces this latent at temperature 1, of the same shape."""
        return (self.latent - self.prior.loc) / self.prior.scale

    @property
    def kl(self):
        """KL(q || p) [B], in nats; with flows, log q - log p at the sample."""
        return tf.reduce_sum(self._kl(), axis=(1, 2, 3))

    @property
    def kl_per_channel(self):
        """The same for each latent channel [B, latent_channels]."""
        return tf.reduce_sum(self._kl(), axis=(1, 2))

    @property
    def log_q(self):
        """Log density of the posterior at the sample [B], nats."""
        return tf.reduce_sum(self.posterior.log_prob(self.sample), axis=(1, 2, 3))

    @property
    def log_p(self):
        """Log density of the prior at the latent [B], nats."""
        return tf.reduce_sum(self.prior.log_prob(self.latent), axis=(1, 2, 3))

    def _kl(self):
        if self.has_flows:
            return self.posterior.log_prob(self.sample) - self.prior.log_prob(self.latent)
        # TFP's own KL uses expm1, which ONNX lacks.
        ratio = self.posterior.scale / self.prior.scale
        distance = tf.square((self.posterior.loc - self.prior.loc) / self.prior.scale)
        return 0.5 * (distance + (ratio - 1.0) * (ratio + 1.0)) - tf.math.log(ratio)


def kl_per_group(terms):
    """KL of each group [B, G], nats, from a list of `GroupTerms`."""
    return tf.stack([group.kl for group in terms], axis=1)


def _halves(both):
    """Splits the output of a head into loc and log_scale, each divided by the bound of its soft clamp."""
    half = both.shape[-1] // 2
    return channels(both, 0, half), channels(both, half, 2 * half)


def _bounded(parameters):
    """(loc, scale) from (loc, log_scale) divided by the bound; see `distributions.normal.latent_normal`."""
    loc, log_scale = parameters
    return BOUND * tf.tanh(loc), tf.exp(BOUND * tf.tanh(log_scale)) + MIN_SCALE


def _shift(net, z):
    """z - mu(z), where net holds the three convolutions of an `AutoregressiveNet`."""
    first, hidden, last = net
    return z - last(tf.nn.elu(tf.nn.elu(hidden(tf.nn.elu(first(z))))))


class InferenceGroup(tf.Module):
    """A `FoldedGroup` with float32 variables."""

    def __init__(self, group):
        super().__init__()
        self._residual = group.residual_posterior
        self._first = group.prior_head is None
        self.cells = [InferenceCell(cell) for cell in group.cells]
        self.prior_head = None if self._first else Convolution(group.prior_head)
        self.combiner = None if self._first else Convolution(group.combiner)
        self.posterior_head = Convolution(group.posterior_head)
        self.flows = [[Convolution(linear) for linear in net] for net in group.flows]
        self.merge = Convolution(group.merge)
        self.start = None if group.start is None else constant_variable(group.start)

    def prior(self, state):
        """Parameters of the prior of z given the groups before.

        Args:
            state: [B, h, w, C]; None for group 0.

        Returns:
            The state after the group's cells, and the prior's (loc, log_scale) [B, h, w, latent_channels] divided by
            the bound of their soft clamp, or (0, 0) for group 0.
        """
        state = apply(self.cells, state)
        return state, (0.0, 0.0) if self._first else _halves(self.prior_head(tf.nn.elu(state)))

    def prior_normal(self, parameters):
        """(loc, scale) of the prior from the parameters that `prior` returns."""
        return (0.0, 1.0 + MIN_SCALE) if self._first else _bounded(parameters)

    def posterior_normal(self, state, prior_parameters, feature):
        """(loc, scale) of the posterior, before the flows, [B, h, w, latent_channels] each.

        Args:
            state, prior_parameters: what `prior` returns.
            feature: the encoder's feature for this group [B, h, w, encoder width].
        """
        if not self._first:
            feature = self.combiner(state, plus=feature)
        parameters = _halves(self.posterior_head(feature))
        if self._residual:
            parameters = [one + other for one, other in zip(parameters, prior_parameters, strict=True)]
        return _bounded(parameters)

    def next_state(self, state, latent):
        """The state for the next group, from the one that `prior` returns and z [B, h, w, latent_channels]."""
        if not self._first:
            return self.merge(tf.concat([state, latent], axis=-1))
        return self.merge(latent) if self.start is None else self.merge(latent) + self.start

    def generate(self, state, noise, temperature=None):
        """Draws z from the prior and returns the new state; arguments as for `infer`."""
        state, parameters = self.prior(state)
        latent, scale = self.prior_normal(parameters)
        if noise is not None:
            latent += scale * (noise if temperature is None else noise * temperature)
        return self.next_state(state, latent)

    def decode(self, state, latent):
        """Merges a given latent [B, h, w, latent_channels] into the state [B, h, w, C], None for group 0."""
        return self.next_state(apply(self.cells, state), latent)

    def infer(self, state, feature, noise=None, temperature=None):
        """Draws z from the posterior and merges it.

        Args:
            state: [B, h, w, C]; None for group 0.
            feature: the encoder's feature for this group [B, h, w, encoder width].
            noise: standard normal [B, h, w, latent_channels]; None for the mean of the posterior.
            temperature: factor of the scale [B, 1, 1, 1], or None for 1.

        Returns:
            The new state and the group's `GroupTerms`.
        """
        state, parameters = self.prior(state)
        posterior = tfd.Normal(*self.posterior_normal(state, parameters, feature))
        latent = sample = posterior.loc
        if noise is not None:
            latent = sample = posterior.loc + posterior.scale * (noise if temperature is None else noise * temperature)
        for net in self.flows:
            latent = _shift(net, latent)
        terms = GroupTerms(latent, sample, posterior, tfd.Normal(*self.prior_normal(parameters)), bool(self.flows))
        return self.next_state(state, latent), terms
