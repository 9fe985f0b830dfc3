"""BIVA: a bidirectional-inference variational autoencoder (Maaløe et al. 2019, arXiv 1902.02102).

It computes what the public PyTorch program of one of the authors computes, including what the paper does not say:
standard deviations above 1, posteriors of merged features without precision weighting, a KL of one sample, free bits
for each latent and image.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf import hierarchy
from nvae_tf.baselines.biva_block import RULE
from nvae_tf.baselines.biva_stage import BIVAStage, latent_terms
from nvae_tf.baselines.weight_norm import NormConv2D
from nvae_tf.distributions import LogisticMixtureLikelihood
from nvae_tf.models.image_model import ImageModel, batch_size, for_rows
from nvae_tf.models.noise import check_per_group
from nvae_tf.models.output import ModelOutput

tfd = tfp.distributions

# Values above this on [-1, 1] are in the last bin: level 255 only, unlike NVAE's.
_LAST_BIN = 0.999


@keras.saving.register_keras_serializable("nvae_tf")
class BIVA(ImageModel):
    """Hierarchy of stages, each with a latent that is inferred bottom-up and one that is inferred top-down.

    Args:
        config: `BIVAConfig`, or a dict of its fields.

    Input: images [B, H, W, C], float32 in [0, 1]. Output: `ModelOutput`. The latents are numbered in generation order:
    that of the last stage, then from stage to stage the top-down and the bottom-up one.

    Attributes:
        stages: the `BIVAStage`s, from the image up.

    Raises:
        ConfigError: no model can be built from the configuration; the message says what is expected.
    """

    data_dependent = True

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.stages = tuple(BIVAStage(config, index, name=f"stage{index + 1}") for index in range(config.num_stages))
        self.out = NormConv2D(hierarchy.num_likelihood_parameters(config), 1, RULE, name="out")
        self.build()

    def build(self, input_shape=None):
        if self.built:
            return
        config = self.model_config
        shape = (None, config.image_height, config.image_width, config.image_channels)
        for stage in self.stages:
            stage.build(shape)
            shape = (None, *stage.size, config.channels if stage.head_kernel_size == 0 else stage.latent_shape[-1])
        self.out.build((None, config.image_height, config.image_width, config.channels))
        self.built = True

    def encode(self, images, training=False):
        """Features of images: the outputs [B, h, w, channels] of both bottom-up paths of the first stage.

        Everything above depends on samples and belongs to `infer`.

        Args:
            images: [B, H, W, C] in [0, 1].
            training: not used; dropout depends only on its seed.
        """
        images = self._check_images(images)
        if self.model_config.likelihood == "logistic_mixture":
            images = 2.0 * images - 1.0
        return list(self.stages[0].bottom_up(images, images))

    def infer(self, features, noise, training=False):
        """Draws latents from the posteriors and decodes them.

        Args:
            features: result of `encode`.
            noise: standard normals in generation order, of the shapes `noise_shapes`.
            training: not used; dropout depends only on its seed.

        Returns:
            `ModelOutput`. The KL is log q - log p at the sample.
        """
        noise = check_per_group("noise", noise, self.noise_shapes(batch_size(features[0])))
        top_noise, noise_of = _by_stage(noise)
        bottom_up, posterior = self._infer_bottom_up(features, [bu for _, bu in noise_of])
        top = _draw(posterior, top_noise)
        groups = [latent_terms(posterior, tfd.Normal(0.0, 1.0), top)]

        def infer_stage(stage, state):
            td_features, bu_posterior, bu = bottom_up[stage.index]
            td_prior, bu_prior = stage.priors(state)
            td_posterior = stage.posterior_td(td_features, state)
            td = _draw(td_posterior, noise_of[stage.index][0])
            groups.extend([latent_terms(td_posterior, td_prior, td), latent_terms(bu_posterior, bu_prior, bu)])
            return td, bu

        params = self._top_down(top, infer_stage)
        return ModelOutput.of_groups(params, groups)

    def _infer_bottom_up(self, features, noise):
        """Deterministic features, posterior and sample of z_bu of each stage but the last; the posterior of its z."""
        (bu, td), results = features, []
        for stage, above, eps in zip(self.stages, self.stages[1:], noise, strict=False):
            posterior = stage.posterior_bu(bu)
            sample = _draw(posterior, eps)
            results.append((td, posterior, sample))
            # The sampling path continues from the sample only; what came before reaches it by the skip connections.
            skip = tf.nn.elu(tf.concat([bu, td], axis=-1))
            bu, td = above.bottom_up(stage.project_bu(sample), td, skip)
        return results, self.stages[-1].posterior_top(bu, td)

    def _generate(self, noise, temperatures, training):
        noise = [eps * for_rows(one, eps.shape.rank) for eps, one in zip(noise, temperatures, strict=True)]
        top, noise_of = _by_stage(noise)

        def generate_stage(stage, state):
            return [_draw(prior, eps) for prior, eps in zip(stage.priors(state), noise_of[stage.index], strict=True)]

        return self._top_down(top, generate_stage)

    def _decode(self, latents):
        top, latents_of = _by_stage(latents)
        return self._top_down(top, lambda stage, state: latents_of[stage.index])

    def _top_down(self, top, draw):
        """Likelihood parameters, from z of the last stage and a function of (stage, state) that gives z_td and z_bu."""
        states = self.stages[-1].generate([top])
        for stage in self.stages[-2::-1]:
            states = stage.generate(draw(stage, states[-1]), states)
        return tf.cast(self.out(tf.nn.elu(states[-1])), tf.float32)

    def likelihood(self, params):
        """Distribution p(x | z) of images; see `ImageModel.likelihood`."""
        config = self.model_config
        if config.likelihood != "logistic_mixture":
            return super().likelihood(params)
        return LogisticMixtureLikelihood(
            params, config.image_channels, config.num_mixtures, config.bit_depth, config.padding, last_bin=_LAST_BIN
        )

    def weighted_kl(self, output, kl_weight):
        """KL [B] that training adds to the reconstruction, nats, and the coefficient of each latent's KL [G].

        Each latent of each image counts with at least `free_bits`; no gradient passes through one that has less. The
        coefficient is the share of the images in which it has more.
        """
        least = self.model_config.free_bits
        above = tf.cast(output.kl_per_group > least, tf.float32)
        kl = tf.reduce_sum(tf.maximum(output.kl_per_group, least), axis=1)
        return kl_weight * kl, kl_weight * tf.reduce_mean(above, axis=0)


def _by_stage(values):
    """The value for the last stage's latent, and those for z_td and z_bu of the other stages, from the image up."""
    top, *others = values
    return top, list(zip(others[::2], others[1::2], strict=True))[::-1]


def _draw(normal, noise):
    return normal.loc + normal.scale * noise
