"""Distributions of NVAE: the Normal of the latents and the likelihoods of images."""

from nvae_tf.distributions.bernoulli import BernoulliLikelihood
from nvae_tf.distributions.logistic_mixture import LogisticMixtureLikelihood
from nvae_tf.distributions.normal import latent_normal
from nvae_tf.distributions.normal_likelihood import NormalLikelihood

__all__ = ["BernoulliLikelihood", "LogisticMixtureLikelihood", "NormalLikelihood", "latent_normal"]
