"""Levels: the values 0, 1, ... that a likelihood gives the pixels of an image."""

import numpy as np


def num_levels(config):
    """Number of levels of the likelihood of a `ModelConfig`."""
    return 2 if config.likelihood == "bernoulli" else 2**config.bit_depth


def full_scale(config):
    """What levels are multiplied by to give pixels of 0 to 255."""
    return 255 if num_levels(config) == 2 else 256 // num_levels(config)


def image_shape(config):
    """(h, w, C) of the images of a `ModelConfig`, without padding."""
    height, width = config.image_height - 2 * config.padding, config.image_width - 2 * config.padding
    return height, width, config.image_channels


def check_images(pixels, config, name):
    """Raises ValueError unless an array holds images of a `ModelConfig`: uint8 [N, h, w, C], or [N, h, w] if C is 1.

    `name` is that of the array in the message.
    """
    shape = image_shape(config)
    fits = pixels.shape[1:] == shape or (shape[2] == 1 and pixels.shape[1:] == shape[:2])
    if pixels.dtype != np.uint8 or not pixels.size or not fits:
        shown = ", ".join(map(str, shape if shape[2] > 1 else shape[:2]))
        raise ValueError(
            f"{name}: expected uint8 [N, {shown}] with N >= 1, the images of the model. "
            f"Received: {pixels.dtype} {list(pixels.shape)}"
        )


def to_levels(pixels, config, name):
    """Levels of images that `check_images` accepts.

    Args:
        pixels: uint8, with values that are all levels, or all levels times `full_scale`.
        config: `ModelConfig`.
        name: that of the array in messages.

    Returns:
        (uint8 [N, h, w, C], what the levels must be multiplied by to give the pixels).

    Raises:
        ValueError: other values.
    """
    count = num_levels(config)
    scale = 1 if pixels.max() < count else full_scale(config)
    others = pixels[pixels % scale != 0]
    if others.size:
        expected = (
            "black and white images, of 0 and 255 or of 0 and 1,"
            if count == 2
            else (f"images of {config.bit_depth} bits, of values below {count} or of multiples of {scale},")
        )
        raise ValueError(
            f"{name}: expected {expected} because the model gives no others a probability; --quantize makes such "
            f"images, and it is those that decompression returns. Received: a value of {others[0]}"
        )
    return (pixels // scale).reshape(-1, *image_shape(config)), scale
