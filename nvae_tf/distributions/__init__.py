"""Distributions: the Normal of NVAE's latents and the likelihoods of images."""

from nvae_tf.distributions.bernoulli import BernoulliLikelihood
from nvae_tf.distributions.discretized_logistic import DiscretizedLogisticLikelihood
from nvae_tf.distributions.logistic_mixture import LogisticMixtureLikelihood
from nvae_tf.distributions.normal import latent_normal
from nvae_tf.distributions.normal_likelihood import NormalLikelihood

__all__ = [
    "BernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "LogisticMixtureLikelihood",
    "NormalLikelihood",
    "image_likelihood",
    "latent_normal",
]


def image_likelihood(config, params):
    """The `ImageLikelihood` p(x | z) that a configuration specifies.

    Args:
        config: `ModelConfig`, or the configuration of another family.
        params: likelihood parameters [B, H, W, P].
    """
    if config.likelihood == "bernoulli":
        return BernoulliLikelihood(params, padding=config.padding)
    if config.likelihood == "normal":
        return NormalLikelihood(params, padding=config.padding)
    if config.likelihood == "discretized_logistic":
        return DiscretizedLogisticLikelihood(params, bit_depth=config.bit_depth, padding=config.padding)
    return LogisticMixtureLikelihood(
        params, config.image_channels, config.num_mixtures, bit_depth=config.bit_depth, padding=config.padding
    )
