"""The negative ELBO and the training objective (paper equation 1)."""

import typing

import tensorflow as tf

from nvae_tf.objectives.kl import balanced_kl


class TrainingLoss(typing.NamedTuple):
    """Terms of the objective, nats; scalars but for the last two.

    Attributes:
        loss: reconstruction + weighted KL, mean over the batch, without the regularisers.
        reconstruction: -log p(x | z), mean over the batch.
        kl: unweighted KL, all groups, mean over the batch.
        kl_per_group: mean over the batch [G].
        kl_coefficients: weight times balance coefficient of each group [G].
    """

    loss: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor
    kl_per_group: tf.Tensor
    kl_coefficients: tf.Tensor


def negative_elbo(model, images, output):
    """NELBO of each image [B], nats: -log p(x | z) + sum of the groups' KL.

    Args:
        model: `NVAE`.
        images: [B, H, W, C] in [0, 1].
        output: what the model gave for them.
    """
    reconstruction = -model.likelihood(output.likelihood_params).log_prob(images)
    return reconstruction + tf.reduce_sum(output.kl_per_group, axis=1)


def training_loss(model, images, output, kl_weight, balance_scales):
    """The objective without the regularisers.

    Args:
        model: `NVAE`.
        images: [B, H, W, C] in [0, 1].
        output: what the model gave for them in training mode.
        kl_weight: scalar; see `objectives.kl.kl_weight`.
        balance_scales: `hierarchy.kl_balance_scales` of the model.

    Returns:
        `TrainingLoss`.
    """
    reconstruction = -model.likelihood(output.likelihood_params).log_prob(images)
    weighted, coefficients = balanced_kl(output.kl_per_group, kl_weight, balance_scales)
    kl_per_group = tf.reduce_mean(output.kl_per_group, axis=0)
    return TrainingLoss(
        loss=tf.reduce_mean(reconstruction + weighted),
        reconstruction=tf.reduce_mean(reconstruction),
        kl=tf.reduce_sum(kl_per_group),
        kl_per_group=kl_per_group,
        kl_coefficients=coefficients,
    )
