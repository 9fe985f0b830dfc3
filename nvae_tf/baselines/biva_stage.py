"""A stage of BIVA: its part of the bottom-up pass and of the top-down pass, with its latents."""

import itertools
import math
import typing

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.baselines.biva_block import RULE, GatedBlock
from nvae_tf.baselines.weight_norm import NormConv2D, NormDense
from nvae_tf.models.model_part import ModelPart

tfd = tfp.distributions


class LatentTerms(typing.NamedTuple):
    """Terms of the objective for one latent, in nats, and the latent.

    Attributes:
        latent: z, [B, units] or [B, h, w, channels].
        kl_per_channel: log q - log p at the sample [B, units or channels], summed over h and w; may be negative.
        log_q: log density of the posterior at the latent [B].
        log_p: log density of the prior at the latent [B].
        posterior, prior: `tfd.Normal`s of the latent; the prior of the last stage is a single one.
    """

    latent: tf.Tensor
    kl_per_channel: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    posterior: tfd.Normal
    prior: tfd.Normal


def latent_terms(posterior, prior, latent):
    """`LatentTerms` of a sample of the posterior, `latent`."""
    log_q, log_p = posterior.log_prob(latent), prior.log_prob(latent)
    axes = list(range(1, latent.shape.rank))
    return LatentTerms(
        latent=latent,
        kl_per_channel=tf.reduce_sum(log_q - log_p, axes[:-1]),
        log_q=tf.reduce_sum(log_q, axes),
        log_p=tf.reduce_sum(log_p, axes),
        posterior=posterior,
        prior=prior,
    )


class BIVAStage(ModelPart):
    """Stage number `index` of a `BIVAConfig`, from 0 at the image.

    A stage has a bottom-up and a top-down latent, and the last stage only one; the two of a stage are independent given
    those of the stages above.

    Attributes:
        top: whether this is the last stage.
        latent_shape: shape of each latent, (units,) or (height, width, channels).
    """

    def __init__(self, config, index, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.index = index
        self.top = index == config.num_stages - 1
        self.strides = 2 if index + 1 in config.downsampled_stages else 1
        self.size = config.resolution(index)
        self.head_kernel_size = config.head_kernel_sizes[index]
        self.latent_shape = config.latent_shape(index)
        kernel_sizes = config.kernel_sizes[index]
        self._places = itertools.count(index * (3 * len(kernel_sizes) + 1))
        self._make_inference(kernel_sizes)
        self._make_generation(kernel_sizes)

    def get_config(self):
        return super().get_config() | {"index": self.index}

    def _make_inference(self, kernel_sizes):
        first, rate = self.index == 0, self.model_config.posterior_dropout
        self.q_bu, self.q_td = [], []
        for j, size in enumerate(kernel_sizes):
            strides, residual = self.strides if j == len(kernel_sizes) - 1 else 1, not (first and j == 0)
            options = {"strides": strides, "residual": residual}
            skips = "none" if first else "same", "half" if self.strides == 2 else "same"
            self.q_bu.append(self._block(f"q_bu.{j}", size, rate, skip=skips[0], **options))
            self.q_td.append(self._block(f"q_td.{j}", size, rate, skip=skips[1], **options))
        if self.top:
            self.q_top = self._block("q_top", kernel_sizes[-1], rate)
            self.q_top_head = self._head("q_top_head")
            return
        self.q_bu_head = self._head("q_bu_head")
        self.q_bu_proj = self._projection("q_bu_proj")
        self.merge = self._block("merge", 3, self.model_config.prior_dropout, skip="same")
        self.q_td_head = self._head("q_td_head")

    def _make_generation(self, kernel_sizes):
        self.z_proj = self._projection("z_proj")
        self.p = []
        # In reverse: the first block is that which doubles the resolution, if any.
        for j, size in enumerate(reversed(kernel_sizes)):
            upsamples = self.strides == 2 and j == 0
            skip = "none" if self.top else "half" if self.strides == 2 and j > 0 else "same"
            options = {"upsample": upsamples, "residual": j > 0, "skip": skip}
            self.p.append(self._block(f"p.{j}", size, self.model_config.prior_dropout, **options))
        if not self.top:
            self.p_td_head, self.p_bu_head = self._head("p_td_head"), self._head("p_bu_head")

    def _block(self, name, kernel_size, rate, **options):
        return GatedBlock(self.model_config.channels, kernel_size, rate, next(self._places), name=name, **options)

    def _head(self, name):
        filters, size = 2 * self.latent_shape[-1], self.head_kernel_size
        return NormConv2D(filters, size, RULE, name=name) if size else NormDense(filters, RULE, name=name)

    def _projection(self, name):
        """Dense layer from vectors to feature maps; None for convolutional latents, which are feature maps."""
        units = math.prod(self.size) * self.model_config.channels
        return None if self.head_kernel_size else NormDense(units, RULE, name=name)

    def build(self, input_shape):
        """Builds all layers; `input_shape` is that of the first block's input in the bottom-up pass."""
        width, units = self.model_config.channels, self.latent_shape[-1]
        below, inner = tuple(input_shape[1:3]), (None, *self.size, width)
        self._build_chain(self.q_bu, input_shape, 2 * width)
        td_channels = width if self.index else self.model_config.image_channels
        self._build_chain(self.q_td, (None, *below, td_channels), width)
        z_channels = units if self.top else 2 * units
        if self.z_proj is not None:
            self.z_proj.build((None, z_channels))
        self._build_chain(self.p, (None, *self.size, z_channels if self.z_proj is None else width), width)
        heads = [self.q_top_head] if self.top else [self.q_bu_head, self.q_td_head, self.p_td_head, self.p_bu_head]
        for head in heads:
            head.build(inner if self.head_kernel_size else (None, math.prod(inner[1:])))
        if self.top:
            self.q_top.build((*inner[:-1], 2 * width))
            return
        self.merge.build(inner, width)
        if self.q_bu_proj is not None:
            self.q_bu_proj.build((None, units))

    def _build_chain(self, blocks, shape, skip_channels):
        for block in blocks:
            block.build(shape, skip_channels)
            shape = (*shape[:-1], block.filters)

    def bottom_up(self, bu, td, skip=None):
        """The blocks of both bottom-up paths.

        Args:
            bu: input of the path that samples, [B, H, W, in].
            td: input of the deterministic path, [B, H, W, in].
            skip: both outputs of the stage below, concatenated, after an ELU; None in the first stage.

        Returns:
            The two paths' outputs [B, h, w, channels].
        """
        for block in self.q_bu:
            bu = block(bu, skip)
        to_td = tf.nn.elu(bu)
        for block in self.q_td:
            td = block(td, to_td)
        return bu, td

    def posterior_bu(self, bu):
        """q(z_bu | x, z_bu of the stages below) as `tfd.Normal`."""
        return self._normal(self.q_bu_head, bu)

    def posterior_top(self, bu, td):
        """q(z | x, all z_bu) of the last stage as `tfd.Normal`."""
        return self._normal(self.q_top_head, self.q_top(tf.concat([bu, td], axis=-1)))

    def posterior_td(self, td, state):
        """q(z_td | x, all z_bu, latents of the stages above), from `td` and the state of the stage above."""
        return self._normal(self.q_td_head, self.merge(td, tf.nn.elu(state)))

    def priors(self, state):
        """p(z_td | latents of the stages above) and p(z_bu | the same), from the state of the stage above."""
        return self._normal(self.p_td_head, state), self._normal(self.p_bu_head, state)

    def project_bu(self, latent):
        """z_bu as the input of the next stage's `bottom_up`."""
        return self._to_map(self.q_bu_proj, latent)

    def generate(self, latents, states=None):
        """The blocks of the top-down pass.

        Args:
            latents: [z_td, z_bu], or [z] in the last stage.
            states: result of `generate` of the stage above; None in the last stage.

        Returns:
            The state after each block [B, h, w, channels], of which the last is the stage's.
        """
        state, outputs = self._to_map(self.z_proj, tf.concat(latents, axis=-1)), []
        for j, block in enumerate(self.p):
            state = block(state) if states is None else block(state, tf.nn.elu(states[j]))
            outputs.append(state)
        return outputs

    def _to_map(self, projection, latent):
        if projection is None:
            return latent
        return tf.reshape(projection(latent), [-1, *self.size, self.model_config.channels])

    def _normal(self, head, features):
        features = tf.nn.elu(features)
        if not self.head_kernel_size:
            features = tf.reshape(features, [-1, math.prod(features.shape[1:])])
        loc, raw_variance = tf.split(tf.cast(head(features), tf.float32), 2, axis=-1)
        # The log variance is the softplus, so that all standard deviations exceed 1.
        return tfd.Normal(loc, tf.exp(0.5 * tf.math.softplus(raw_variance)))
