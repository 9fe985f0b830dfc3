"""Where the latent groups of a model live: scales, groups, channels and resolutions, in plain Python.

Scale 0 is the coarsest; groups are numbered in generation order (coarsest scale first).
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """One spatial scale that carries latents.

    Attributes:
        index: 0 at the coarsest scale.
        num_groups: latent groups at this scale.
        height, width: of the latents and features.
        encoder_channels, decoder_channels: widths of the two towers.
    """

    index: int
    num_groups: int
    height: int
    width: int
    encoder_channels: int
    decoder_channels: int


def groups_per_scale(config):
    """Number of groups of each scale, coarsest first.

    The finest has `groups_per_scale`; with adaptive groups each coarser one has max(min_groups, n // 2) of the one
    before it (paper, appendix A).
    """
    counts = [config.groups_per_scale]
    while len(counts) < config.num_scales:
        last = counts[-1]
        counts.append(max(config.min_groups_per_scale, last // 2) if config.adaptive_groups else last)
    return tuple(reversed(counts))


def scales(config):
    """The `Scale`s of a model, coarsest first."""
    result = []
    for index, num_groups in enumerate(groups_per_scale(config)):
        factor = config.downsampling // 2**index
        scale = Scale(
            index=index,
            num_groups=num_groups,
            height=config.image_height // factor,
            width=config.image_width // factor,
            encoder_channels=config.encoder_channels * factor,
            decoder_channels=config.decoder_channels * factor,
        )
        result.append(scale)
    return tuple(result)


def num_groups(config):
    """Latent groups of the whole model."""
    return sum(groups_per_scale(config))


def group_scales(config):
    """The `Scale` of each group, in generation order."""
    return tuple(scale for scale in scales(config) for _ in range(scale.num_groups))


def has_towers(config):
    """False in the special case of one scale with one group, which has no towers."""
    return num_groups(config) > 1


def noise_shapes(config, batch_size):
    """Shape [B, h, w, latent_channels] of each group's noise, in generation order."""
    return [(batch_size, scale.height, scale.width, config.latent_channels) for scale in group_scales(config)]


def kl_balance_scales(config):
    """a_l of each group: (2^i)^2 / (groups in scale i), divided by the smallest.

    i counts from 0 at the coarsest scale, so the weight follows the number of latents in a group.
    """
    weights = [4.0**scale.index / scale.num_groups for scale in group_scales(config)]
    return [weight / min(weights) for weight in weights]


def num_outputs(config):
    """Image values that count in bits per dimension: H * W * C without the padding."""
    height = config.image_height - 2 * config.padding
    width = config.image_width - 2 * config.padding
    return height * width * config.image_channels


def num_likelihood_parameters(config):
    """Channels of the likelihood head.

    The mixture has its logits, a mean and a log scale per image channel, and one coefficient for each pair of
    channels (10 values per component for RGB).
    """
    channels = config.image_channels
    if config.likelihood == "bernoulli":
        return channels
    if config.likelihood == "normal":
        return 2 * channels
    return config.num_mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)
