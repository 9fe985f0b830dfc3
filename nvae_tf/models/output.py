"""What a model computes for a batch of images."""

import typing

import tensorflow as tf


class ModelOutput(typing.NamedTuple):
    """Outputs of a model for a batch of images.

    Attributes:
        likelihood_params: parameters of p(x | z) [B, H, W, P]; see the model's `likelihood`.
        kl_per_group: KL of each latent [B, G], nats, in generation order.
        log_q: log q(z | x) of the sample, summed over the latents [B], nats.
        log_p: log p(z) of the sample, summed over the latents [B], nats.
        kl_per_channel: KL of each channel of a latent [B, G, C], nats, where C is the largest number of channels; 0 for
            channels that a latent does not have.
        groups: the terms of each latent, in generation order. Each has its `latent` [B, ...], `kl_per_channel`
            [B, channels of the latent], `log_q` [B] and `log_p` [B]; and, unless the latent is a code, `posterior` and
            `prior`, `tfd.Normal`s of the latent, or of what a flow makes it from.
    """

    likelihood_params: tf.Tensor
    kl_per_group: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    kl_per_channel: tf.Tensor
    groups: list

    @classmethod
    def of_groups(cls, likelihood_params, groups):
        """The output from the likelihood parameters and the terms of each latent."""
        kl_per_channel = stack_channels([group.kl_per_channel for group in groups])
        return cls(
            likelihood_params=likelihood_params,
            kl_per_group=tf.reduce_sum(kl_per_channel, axis=2),
            log_q=tf.add_n([group.log_q for group in groups]),
            log_p=tf.add_n([group.log_p for group in groups]),
            kl_per_channel=kl_per_channel,
            groups=groups,
        )

    @property
    def latents(self):
        """z of each latent, after its flows, [B, ...] each."""
        return [group.latent for group in self.groups]


def stack_channels(kl_per_channel):
    """[B, G, C] from a list of G tensors [B, channels], C being the largest number of channels; 0 for those missing."""
    largest = max(kl.shape[1] for kl in kl_per_channel)
    padded = [
        kl if kl.shape[1] == largest else tf.pad(kl, [[0, 0], [0, largest - kl.shape[1]]]) for kl in kl_per_channel
    ]
    return tf.stack(padded, axis=1)
