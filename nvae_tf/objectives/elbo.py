"""The training objective: the negative ELBO (paper equation 1) with a weighted, balanced KL."""

import typing

import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.objectives.kl import balanced_kl


class TrainingLoss(typing.NamedTuple):
    """Terms of the objective, in nats.

    Attributes:
        loss: reconstruction + weighted KL, mean over the batch, without the regularisers; scalar.
        reconstruction: -log p(x | z), mean over the batch; scalar.
        kl: unweighted KL summed over the groups, mean over the batch; scalar.
        kl_per_group: unweighted KL of each group, mean over the batch [G].
        kl_coefficients: KL weight times balance coefficient of each group [G].
    """

    loss: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor
    kl_per_group: tf.Tensor
    kl_coefficients: tf.Tensor


def training_loss(model, images, output, kl_weight):
    """The objective without the regularisers, as `TrainingLoss`.

    Args:
        model: `NVAE`, or another `ImageModel` with a method `weighted_kl`, which takes the place of the balancing: from
            the output and the KL weight, it computes what is added to the reconstruction [B], nats, and the coefficient
            of each latent's KL [G].
        images: [B, H, W, C] in [0, 1].
        output: `ModelOutput` of the images in training mode.
        kl_weight: scalar in (0, 1].
    """
    # 1. The first term of equation 1: E_q[log p(x | z)], with one sample of z.
    reconstruction = -model.likelihood(output.likelihood_params).log_prob(images)
    # 2. Its KL terms, one for each group (`LatentGroup.infer`), weighted and balanced (appendix A).
    if hasattr(model, "weighted_kl"):
        weighted_kl, coefficients = model.weighted_kl(output, kl_weight)
    else:
        balance_scales = hierarchy.kl_balance_scales(model.model_config)
        weighted_kl, coefficients = balanced_kl(output.kl_per_group, kl_weight, balance_scales)
    kl_per_group = tf.reduce_mean(output.kl_per_group, axis=0)
    return TrainingLoss(
        loss=tf.reduce_mean(reconstruction + weighted_kl),
        reconstruction=tf.reduce_mean(reconstruction),
        kl=tf.reduce_sum(kl_per_group),
        kl_per_group=kl_per_group,
        kl_coefficients=coefficients,
    )
