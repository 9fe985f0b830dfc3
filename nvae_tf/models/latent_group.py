"""One latent group: prior, posterior, flow, sample, KL and merge (paper sections 2 and 3.2, figure 2)."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf import hierarchy
from nvae_tf.distributions.normal import latent_normal
from nvae_tf.layers.cells import CELL_OPERATIONS, Cell, apply_cells, build_cells
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.models.flow import FlowStep
from nvae_tf.models.model_part import ModelPart

tfd = tfp.distributions


class LatentTerms(typing.NamedTuple):
    """Terms of the objective for one group, in nats, and its latent.

    Attributes:
        latent: z after the flows [B, h, w, latent_channels].
        kl_per_channel: KL(q || p) [B, latent_channels], summed over h and w; with flows, log q - log p at the sample.
        log_q: log density of the posterior at the sample before the flows [B].
        log_p: log density of the prior at the latent [B].
    """

    latent: tf.Tensor
    kl_per_channel: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor


class Combiner(Layer):
    """1x1 convolution [B, h, w, C] -> [B, h, w, filters] that combines the decoder state with a feature or a latent."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = Conv2D(filters, 1, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        return self.conv(inputs)


class LatentGroup(ModelPart):
    """Latent group number `index`, in generation order, of a `ModelConfig`: the unit of the hierarchy.

    Attributes:
        first: whether this is group 0, which has a fixed prior and no cells before it.
        encoder_combiner: `Combiner` of the state, whose output is added to the encoder's feature; None for group 0.
        merge_state: whether z is merged with a state; False if the state is made from z only (one scale, one group).
        merge: `Combiner` of [state, z], or a 1x1 convolution of z.
    """

    def __init__(self, config, index, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.index = index
        self.first = index == 0
        self.scale = hierarchy.group_scales(config)[index]
        self.residual_posterior = config.residual_posterior
        channels, width = config.latent_channels, self.scale.decoder_channels
        self.latent_shape = (None, self.scale.height, self.scale.width, channels)
        self.cells = []
        self.prior_head = self.encoder_combiner = None
        if not self.first:
            operations, gate = CELL_OPERATIONS[config.cell_set].decoder, config.squeeze_excite
            count = config.decoder_cells_per_group
            self.cells = [Cell(operations, width, squeeze_excite=gate, name=f"cell_{i}") for i in range(count)]
            self.prior_head = Conv2D(2 * channels, 1, name="prior_head")
            self.encoder_combiner = Combiner(self.scale.encoder_channels, name="encoder_combiner")
        self.posterior_head = Conv2D(2 * channels, 3, name="posterior_head")
        self.flows = [FlowStep(channels, name=f"flow_{i}") for i in range(config.num_flows)]
        self.merge_state = hierarchy.has_towers(config)
        if self.merge_state:
            self.merge = Combiner(width, name="merge")
        else:
            self.merge = Conv2D(self.scale.encoder_channels, 1, name="merge")

    def get_config(self):
        return super().get_config() | {"index": self.index}

    def build(self, state_shape):
        feature_shape = (*self.latent_shape[:-1], self.scale.encoder_channels)
        build_cells(self.cells, state_shape)
        if not self.first:
            self.prior_head.build(state_shape)
            self.encoder_combiner.build(state_shape)
        self.posterior_head.build(feature_shape)
        for flow in self.flows:
            flow.build(self.latent_shape)
        state_channels = state_shape[-1] if self.merge_state else 0
        self.merge.build((*self.latent_shape[:-1], state_channels + self.latent_shape[-1]))

    def _prior_parameters(self, state):
        """(loc, log_scale) of p(z_l | z_<l) before the clamp; zeros for group 0."""
        if self.first:
            zeros = tf.zeros((1, *self.latent_shape[1:]))
            return zeros, zeros
        return tf.split(tf.cast(self.prior_head(tf.nn.elu(state)), tf.float32), 2, axis=-1)

    def _posterior_parameters(self, state, feature, prior):
        """(loc, log_scale) of q(z_l | z_<l, x) before the clamp; see "residual Normal distributions", section 3.2."""
        if not self.first:
            feature = feature + self.encoder_combiner(state)
        loc, log_scale = tf.split(tf.cast(self.posterior_head(feature), tf.float32), 2, axis=-1)
        if self.residual_posterior:
            return loc + prior[0], log_scale + prior[1]
        return loc, log_scale

    def _merge(self, state, latent):
        if self.merge_state:
            latent = tf.concat([state, tf.cast(latent, state.dtype)], axis=-1)
        return self.merge(latent)

    def infer(self, state, feature, noise, training=False):
        """Draws z from the posterior and merges it.

        Args:
            state: [B, h, w, C].
            feature: the encoder's feature for this group [B, h, w, encoder width].
            noise: standard normal [B, h, w, latent_channels].

        Returns:
            The new state and the group's `LatentTerms`.
        """
        state = apply_cells(self.cells, state, training)
        # 1. The prior p(z_l | z_<l) (section 2).
        prior_parameters = self._prior_parameters(state)
        prior = latent_normal(*prior_parameters)
        # 2. The posterior q(z_l | z_<l, x), relative to the prior (section 3.2).
        posterior = latent_normal(*self._posterior_parameters(state, feature, prior_parameters))
        # 3. A reparameterised sample of it, passed through the volume-preserving flows (section 3.2).
        sample = latent = posterior.loc + posterior.scale * noise
        for flow in self.flows:
            latent = flow(latent)
        # 4. KL(q(z_l | z_<l, x) || p(z_l | z_<l)), the term of group l in equation 1.
        log_q, log_p = posterior.log_prob(sample), prior.log_prob(latent)
        kl = log_q - log_p if self.flows else tfd.kl_divergence(posterior, prior)
        terms = LatentTerms(
            latent=latent,
            kl_per_channel=tf.reduce_sum(kl, axis=(1, 2)),
            log_q=tf.reduce_sum(log_q, axis=(1, 2, 3)),
            log_p=tf.reduce_sum(log_p, axis=(1, 2, 3)),
        )
        # 5. The state for the groups that follow.
        return self._merge(state, latent), terms

    def generate(self, state, noise, temperature=1.0, training=False):
        """Draws z from the prior at a temperature and merges it; flows belong only to the posterior.

        `temperature` is the factor of the prior's scale; see `infer`. Returns the new state, and None.
        """
        state = apply_cells(self.cells, state, training)
        prior = latent_normal(*self._prior_parameters(state), temperature=temperature)
        return self._merge(state, prior.loc + prior.scale * noise), None

    def decode(self, state, latent, training=False):
        """Merges a given z [B, h, w, latent_channels], after the flows; see `infer`.

        Returns the new state, and the standard normal from which `generate` produces this z at temperature 1.
        """
        state = apply_cells(self.cells, state, training)
        prior = latent_normal(*self._prior_parameters(state))
        return self._merge(state, latent), (latent - prior.loc) / prior.scale
