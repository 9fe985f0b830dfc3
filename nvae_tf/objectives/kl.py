"""The KL term and its balancing over groups (paper appendix A)."""

import tensorflow as tf

from nvae_tf.layers.replicas import mean_over_replicas

_KL_OFFSET = 0.01
# A latent channel whose KL is below this, in nats per image, has collapsed to its prior.
ACTIVE_KL = 0.01


def balanced_kl(kl_per_group, weight, balance_scales):
    """Weighted KL of each image, balanced over groups while the weight is below 1.

    The coefficients c_l have a mean of 1 and are larger where the KL, as a mean over the batches of all replicas, is
    large for the size of the group. No gradient passes through them.

    Args:
        kl_per_group: [B, G], nats.
        weight: scalar in (0, 1].
        balance_scales: a_l of each group; see `hierarchy.kl_balance_scales`.

    Returns:
        KL [B], nats, and the weight times the coefficient of each group [G].
    """
    (mean,) = mean_over_replicas([tf.stop_gradient(tf.reduce_mean(tf.abs(kl_per_group), axis=0))])
    coefficients = (mean + _KL_OFFSET) / tf.constant(balance_scales, tf.float32)
    # By definition all c_l contain the total KL as a factor, which cancels in the normalisation.
    coefficients = tf.stop_gradient(coefficients / tf.reduce_mean(coefficients))
    coefficients = weight * tf.where(weight < 1.0, coefficients, tf.ones_like(coefficients))
    return tf.linalg.matvec(kl_per_group, coefficients), coefficients
