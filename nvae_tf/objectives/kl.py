"""The KL term: warm-up and balancing over groups (paper appendix A)."""

import tensorflow as tf

from nvae_tf.layers.replicas import mean_over_replicas

_KL_OFFSET = 0.01
# A latent channel whose KL is smaller than this, in nats per image, has collapsed to its prior.
ACTIVE_KL = 0.01


def kl_weight(step, total_steps, anneal_fraction=0.3, constant_fraction=1e-4, min_weight=1e-4):
    """Weight of the KL term at a step: max(min((step - constant) / anneal, 1), min_weight).

    Args:
        step: step, scalar tensor or number.
        total_steps: steps of the whole run.
        anneal_fraction: part of all steps over which the weight grows to 1. Default 0.3.
        constant_fraction: part of all steps before it grows. Default 1e-4.
        min_weight: least weight. Default 1e-4.

    Returns:
        float32 scalar.
    """
    step = tf.cast(step, tf.float32)
    anneal, constant = anneal_fraction * total_steps, constant_fraction * total_steps
    return tf.maximum(tf.minimum((step - constant) / anneal, 1.0), min_weight)


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
