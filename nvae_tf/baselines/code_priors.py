"""The priors of VQ-VAE-2 as a model of their own, whose data are codes."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.models.image_model import ImageModel
from nvae_tf.models.output import ModelOutput

tfd = tfp.distributions


def nll_per_level(priors, codes):
    """-log p of the codes of each level given the coarser ones [B], nats."""
    return [prior.nll(*pair) for prior, *pair in zip(priors, codes, [None, *codes[:-1]], strict=True)]


class CodePriors(ImageModel):
    """The priors of a `VQVAE2` as a model of the codes of images, for training with the stage `"prior"`.

    Input: codes of all levels in raster order, coarsest first, int32 [B, N]. There are no latents: the only term of the
    objective is -log p of each level's codes, in the place of its KL.
    """

    def __init__(self, model):
        super().__init__(model.model_config, name=model.name)
        self.priors = model.priors
        self.built = True

    def call(self, images, noise=None, seed=None, training=False):
        shapes = [shape[:2] for shape in self.model_config.latent_shapes]
        parts = tf.split(images, [math.prod(shape) for shape in shapes], axis=1)
        codes = [tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, shapes, strict=True)]
        nll = tf.stack(nll_per_level(self.priors, codes), axis=1)
        return ModelOutput(images, nll, tf.zeros_like(nll[:, 0]), -tf.reduce_sum(nll, axis=1), nll[..., tf.newaxis], [])

    def weighted_kl(self, output, kl_weight):
        """See `VQVAE2.weighted_kl`."""
        return kl_weight * tf.reduce_sum(output.kl_per_group, axis=1), tf.fill(output.kl_per_group.shape[1:], kl_weight)

    def likelihood(self, params):
        """The codes are all there is: their reconstruction is certain."""
        return tfd.Independent(tfd.Deterministic(params), 1)
