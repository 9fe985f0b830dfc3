"""One latent group: prior, posterior, flow, sample, KL and merge (paper section 3.2)."""

import dataclasses
import typing

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.normal import latent_normal
from nvae_tf.layers.cells import CELL_SETS, Cell, apply_cells, build_cells
from nvae_tf.layers.combiners import DecoderCombiner, EncoderCombiner
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.models.flow import FlowStep

tfd = tfp.distributions


class LatentTerms(typing.NamedTuple):
    """What a group adds to the objective (nats), and its latent.

    Attributes:
        latent: z after the flows [B, h, w, latent_channels].
        kl_per_channel: KL(q || p) [B, latent_channels], summed over h and w. With flows log q - log p at the sample.
        log_q: log density of the posterior at the sample [B].
        log_p: log density of the prior at the latent [B].
        posterior_loc: of q, before the flows [B, h, w, latent_channels].
        posterior_scale: standard deviation of q, of the same shape.
    """

    latent: tf.Tensor
    kl_per_channel: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    posterior_loc: tf.Tensor
    posterior_scale: tf.Tensor


@dataclasses.dataclass(frozen=True)
class GroupPlace:
    """Where a group stands: `index` in generation order, its `hierarchy.Scale`."""

    index: int
    scale: object

    @property
    def first(self):
        """Group 0 has a fixed prior and no cells before it."""
        return self.index == 0


@keras.saving.register_keras_serializable(package="nvae_tf")
class LatentGroup(Layer):
    """The unit of the hierarchy, for training, for sampling and for scoring.

    Args:
        config: `ModelConfig`.
        place: `GroupPlace`.
        state_filters: width of the state after the merge.
        merge_state: merge z with the state that came in; False where z alone makes the state (one scale, one group).

    Attributes:
        cells: decoder cells that the state passes before the group; none for group 0.
        prior_head: convolution that gives the prior's parameters; None for group 0.
        posterior_head: convolution that gives the posterior's parameters.
        encoder_combiner: joins the encoder feature and the state; None for group 0.
        flows: `FlowStep`s of the posterior.
        merge: `DecoderCombiner`, or a 1x1 convolution of z.
    """

    def __init__(self, config, place, state_filters, merge_state=True, **kwargs):
        super().__init__(**kwargs)
        self.place = place
        self.residual_posterior = config.residual_posterior
        channels = config.latent_channels
        self.latent_shape = (None, place.scale.height, place.scale.width, channels)
        self.cells = []
        self.prior_head = self.encoder_combiner = None
        if not place.first:
            operations = CELL_SETS[config.cell_set].decoder
            width, gate = place.scale.decoder_channels, config.squeeze_excite
            count = config.decoder_cells_per_group
            self.cells = [Cell(operations, width, squeeze_excite=gate, name=f"cell_{i}") for i in range(count)]
            self.prior_head = Conv2D(2 * channels, 1, name="prior_head")
            self.encoder_combiner = EncoderCombiner(place.scale.encoder_channels, name="encoder_combiner")
        self.posterior_head = Conv2D(2 * channels, 3, name="posterior_head")
        self.flows = [FlowStep(channels, name=f"flow_{i}") for i in range(config.num_flows)]
        self.merge_state = merge_state
        self.merge = (
            DecoderCombiner(state_filters, name="merge") if merge_state else Conv2D(state_filters, 1, name="merge")
        )

    def build(self, state_shape):
        spatial = self.latent_shape[:-1]
        feature_shape = (*spatial, self.place.scale.encoder_channels)
        build_cells(self.cells, state_shape)
        if not self.place.first:
            self.prior_head.build(state_shape)
            self.encoder_combiner.build(feature_shape, state_shape)
        self.posterior_head.build(feature_shape)
        for flow in self.flows:
            flow.build(self.latent_shape)
        if self.merge_state:
            self.merge.build(state_shape, self.latent_shape)
        else:
            self.merge.build(self.latent_shape)

    def _prior_parameters(self, state):
        """(loc, log_scale) of p(z_l | z_<l), before the clamp; zeros for group 0."""
        if self.place.first:
            zeros = tf.zeros((1, *self.latent_shape[1:]))
            return zeros, zeros
        return tf.split(tf.cast(self.prior_head(tf.nn.elu(state)), tf.float32), 2, axis=-1)

    def _posterior_parameters(self, state, feature, prior):
        """(loc, log_scale) of q(z_l | x, z_<l), relative to the prior's where residual (equation 2)."""
        if not self.place.first:
            feature = self.encoder_combiner(feature, state)
        loc, log_scale = tf.split(tf.cast(self.posterior_head(feature), tf.float32), 2, axis=-1)
        if self.residual_posterior:
            return loc + prior[0], log_scale + prior[1]
        return loc, log_scale

    def _merge(self, state, latent):
        return self.merge(state, latent) if self.merge_state else self.merge(latent)

    def infer(self, state, feature, noise, training=False):
        """Draws z from the posterior and merges it.

        Args:
            state: [B, h, w, C].
            feature: the encoder's for this group [B, h, w, encoder width].
            noise: standard normal [B, h, w, latent_channels].

        Returns:
            The new state and the group's `LatentTerms`.
        """
        state = apply_cells(self.cells, state, training)
        prior_parameters = self._prior_parameters(state)
        prior = latent_normal(*prior_parameters)
        posterior = latent_normal(*self._posterior_parameters(state, feature, prior_parameters))
        sample = posterior.loc + posterior.scale * noise
        latent = sample
        for flow in self.flows:
            latent = flow(latent)
        terms = self._terms(posterior, prior, sample, latent)
        return self._merge(state, latent), terms

    def _terms(self, posterior, prior, sample, latent):
        log_q, log_p = posterior.log_prob(sample), prior.log_prob(latent)
        kl = log_q - log_p if self.flows else tfd.kl_divergence(posterior, prior)
        return LatentTerms(
            latent=latent,
            kl_per_channel=tf.reduce_sum(kl, axis=(1, 2)),
            log_q=tf.reduce_sum(log_q, axis=(1, 2, 3)),
            log_p=tf.reduce_sum(log_p, axis=(1, 2, 3)),
            posterior_loc=posterior.loc,
            posterior_scale=posterior.scale,
        )

    def generate(self, state, noise, temperature=1.0, training=False):
        """Draws z from the prior at a temperature and merges it; flows belong to the posterior alone.

        Args:
            state: [B, h, w, C].
            noise: standard normal [B, h, w, latent_channels].
            temperature: factor of the prior's scale. Default 1.
        """
        state = apply_cells(self.cells, state, training)
        prior = latent_normal(*self._prior_parameters(state), temperature=temperature)
        return self._merge(state, prior.loc + prior.scale * noise)

    def decode(self, state, latent, training=False):
        """Merges a latent that is given.

        Args:
            state: [B, h, w, C].
            latent: z [B, h, w, latent_channels], after the flows.

        Returns:
            The new state, and the standard normal from which `generate` makes this latent at temperature 1.
        """
        state = apply_cells(self.cells, state, training)
        prior = latent_normal(*self._prior_parameters(state))
        return self._merge(state, latent), (latent - prior.loc) / prior.scale
