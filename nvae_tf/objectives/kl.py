"""The KL term and its balancing over groups (paper appendix A)."""

import tensorflow as tf

from nvae_tf.layers.replicas import mean_over_replicas

_KL_OFFSET = 0.01
# A latent channel whose KL is below this, in nats per image, has collapsed to its prior.
ACTIVE_KL = 0.01


def balance_coefficients(kl_per_group, balance_scales):
    """Coefficients c_l of the groups [G], larger if the KL is large for the size of the group, with a mean of 1.

    The batch is that of all replicas together. No gradient passes through the coefficients.

    Args:
        kl_per_group: [B, G], nats.
        balance_scales: a_l of each group; see `hierarchy.kl_balance_scales`.
    """
    (mean,) = mean_over_replicas([tf.stop_gradient(tf.reduce_mean(tf.abs(kl_per_group), axis=0))])
    magnitude = mean + _KL_OFFSET
    coefficients = magnitude / tf.constant(balance_scales, tf.float32)
    # By definition all c_l contain the total KL as a factor, which cancels in the normalisation.
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
