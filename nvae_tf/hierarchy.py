"""Structure of a model: scales, groups, channels and resolutions, in plain Python.

Scale 0 is the coarsest; groups are numbered in generation order (coarsest scale first). The functions take a
`ModelConfig`; those of latents, noise and outputs also take the configuration of another family, which lists its
`latent_shapes` and `latent_levels` itself.
"""

import collections
import dataclasses

# The noise of an image has a counter: its purpose in the highest bits, then the image's index, then the sample. The
# counters of different purposes never coincide.
LATENTS, PIXELS = range(2)
PURPOSE_BITS = 60
SAMPLE_BITS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """One spatial scale that carries latents.

    Attributes:
        index: 0 at the coarsest scale.
        num_groups: latent groups at this scale.
        height, width: size of the latents and features.
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

    The finest scale has `groups_per_scale`; with adaptive groups each coarser scale has max(min_groups, n // 2), where
    n is the number of the next finer one (paper, appendix A).
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
    """Number of latent groups in the whole model."""
    return sum(groups_per_scale(config))


def num_sampled_groups(config, requested=None):
    """Number of groups that have noise: all, or those requested, from the first; ValueError if there are fewer."""
    count = num_groups(config)
    if requested is not None and not 1 <= requested <= count:
        raise ValueError(f"num_groups: expected 1 to {count}. Received: {requested}")
    return requested or count


def group_scales(config):
    """The `Scale` of each group, in generation order."""
    return tuple(scale for scale in scales(config) for _ in range(scale.num_groups))


def has_towers(config):
    """Whether the model has towers: all models do, except those with one scale and one group."""
    return num_groups(config) > 1


def latent_shapes(config):
    """Shape of each latent of an image, in generation order: (h, w, latent_channels), or what another family has."""
    if hasattr(config, "latent_shapes"):
        return config.latent_shapes
    return [(scale.height, scale.width, config.latent_channels) for scale in group_scales(config)]


def latent_levels(config):
    """Index of the scale of each latent, in generation order, or of what another family has in place of scales."""
    return config.latent_levels if hasattr(config, "latent_levels") else [one.index for one in group_scales(config)]


def latents_by_level(config):
    """List of (level, number of latents, shape of each of them for one image), coarsest first."""
    counts = collections.Counter(zip(latent_levels(config), latent_shapes(config), strict=True))
    return [(level, count, shape) for (level, shape), count in counts.items()]


def noise_shapes(config, batch_size):
    """Shape [B, ...] of each latent's noise, in generation order; see `latent_shapes`."""
    return [(batch_size, *shape) for shape in latent_shapes(config)]


def numbered(prefix, config):
    """Names of the tensors of the groups, in generation order: `noise_00`, `noise_01`, ..."""
    count = num_groups(config)
    digits = max(len(str(count - 1)), 2)
    return [f"{prefix}_{index:0{digits}d}" for index in range(count)]


def kl_balance_scales(config):
    """a_l of each group: (2^i)^2 / (groups in scale i), divided by the smallest.

    i counts from 0 at the coarsest scale, so a_l grows with the number of latents in a group.
    """
    weights = [4.0**scale.index / scale.num_groups for scale in group_scales(config)]
    return [weight / min(weights) for weight in weights]


def num_outputs(config):
    """Number of image values in bits per dimension: H * W * C without the padding."""
    height = config.image_height - 2 * config.padding
    width = config.image_width - 2 * config.padding
    return height * width * config.image_channels


def num_likelihood_parameters(config):
    """Number of channels of the likelihood head."""
    channels = config.image_channels
    if config.likelihood == "bernoulli":
        return channels
    if config.likelihood == "normal":
        return 2 * channels
    return config.num_mixtures * num_mixture_pieces(channels)


def num_mixture_pieces(num_channels):
    """Number of parameters per pixel of one component of the mixture of logistics: 10 for RGB.

    They are a logit, a mean and a log scale for each image channel, and a coefficient for each pair of channels.
    """
    return 1 + 2 * num_channels + num_channels * (num_channels - 1) // 2


def sort_mixture_pieces(pieces, num_channels):
    """Sorts the parameters of the mixture of logistics, given in the order of the likelihood head's channels.

    The logits come first, then a block for each channel: means, log scales and coefficients. The coefficients belong
    to the pairs (1, 0), (2, 0), (2, 1), (3, 0)... of channels, in this order, and are spread over the blocks as evenly
    as possible, with the remainder in the first blocks; with three channels each block has one.

    Args:
        pieces: the parameters, as `num_mixture_pieces` tensors or arrays with one value per component.
        num_channels: C, channels of the images.

    Returns:
        The logits, and lists of C means, C log scales and C * (C - 1) / 2 coefficients.
    """
    logits, *pieces = pieces
    pieces, means, log_scales, coefficients = iter(pieces), [], [], []
    quotient, remainder = divmod(num_channels * (num_channels - 1) // 2, num_channels)
    for channel in range(num_channels):
        means.append(next(pieces))
        log_scales.append(next(pieces))
        coefficients += [next(pieces) for _ in range(quotient + (channel < remainder))]
    return logits, means, log_scales, coefficients
