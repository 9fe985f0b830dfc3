"""The KL term, its balancing over groups (paper appendix A), and free bits."""

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


def free_bits_kl(kl_per_channel, least):
    """KL of each group with at least `least` nats for each channel (Kingma et al. 2016, arXiv 1606.04934, section 4).

    The KL of a channel is its mean over the batch. No gradient passes through a channel below `least`. Which channels
    are below is decided for the batches of all replicas together, so that a step does not depend on how many replicas
    share it; the original decides on each GPU's own batch.

    Args:
        kl_per_channel: [B, G, C], nats.
        least: nats, > 0.

    Returns:
        KL [G], nats, whose mean over the replicas is that of the objective; and the share of each group's channels that
        are not below `least` [G].
    """
    local = tf.reduce_mean(kl_per_channel, axis=0)
    (mean,) = mean_over_replicas([tf.stop_gradient(local)])
    above = mean >= least
    return tf.reduce_sum(tf.where(above, local, least), axis=1), tf.reduce_mean(tf.cast(above, tf.float32), axis=1)
