"""The likelihood that a configuration asks for."""

from nvae_tf.distributions.bernoulli import BernoulliLikelihood
from nvae_tf.distributions.logistic_mixture import LogisticMixtureLikelihood
from nvae_tf.distributions.normal_likelihood import NormalLikelihood


def image_likelihood(config, params):
    """Distribution p(x | z) of images [B, H, W, C] in [0, 1].

    Its `log_prob` is in nats per image [B] and leaves out the padding; `mean()` and `sample(seed)` are images.

    Args:
        config: `ModelConfig`.
        params: likelihood parameters [B, H, W, P].
    """
    if config.likelihood == "bernoulli":
        return BernoulliLikelihood(params, padding=config.padding)
    if config.likelihood == "normal":
        return NormalLikelihood(params, padding=config.padding)
    return LogisticMixtureLikelihood(
        params, config.image_channels, config.num_mixtures, bit_depth=config.bit_depth, padding=config.padding
    )
