"""The KL term: balancing over groups (paper appendix A)."""

import tensorflow as tf

from nvae_tf.layers.replicas import mean_over_replicas

_KL_OFFSET = 0.01
# A latent channel whose KL is smaller than this, in nats per image, has collapsed to its prior.
ACTIVE_KL = 0.01


def balance_coefficients(kl_per_group, balance_scales):
    """Coefficient c_l of each group [G]: larger if its KL is large for the size of the group. Their mean is 1.

    The batch is that of all replicas together. No gradient passes through the coefficients.

    Args:
        kl_per_group: [B, G], nats.
        balance_scales: a_l of each group; see `hierarchy.kl_balance_scales`.
    """
    (mean,) = mean_over_replicas([tf.stop_gradient(tf.reduce_mean(tf.abs(kl_per_group), axis=0))])
    magnitude = mean + _KL_OFFSET
    coefficients = magnitude / tf.constant(balance_scales, tf.float32)
    # The factor that all c_l share by definition, the total KL, cancels in the normalisation.
    return tf.stop_gradient(coefficients / tf.reduce_mean(coefficients))


def balanced_kl(kl_per_group, weight, balance_scales):
    """Weighted KL of each image, balanced over groups while the weight is below 1.

    Args:
        kl_per_group: [B, G], nats.
        weight: scalar in (0, 1].
        balance_scales: a_l of each group.

    Returns:
        KL [B], nats, and the weight times the coefficient of each group [G].
    """
    coefficients = balance_coefficients(kl_per_group, balance_scales)
    coefficients = weight * tf.where(weight < 1.0, coefficients, tf.ones_like(coefficients))
    return tf.linalg.matvec(kl_per_group, coefficients), coefficients
