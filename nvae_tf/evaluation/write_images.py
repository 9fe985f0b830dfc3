"""Images to PNG files, alone or in a grid."""

import math
import os

import numpy as np
import PIL.Image

_GREY = 128


def grid(images, columns=None, gap=2):
    """Lays images out row by row, with grey lines between them; cells that are left over are black.

    Args:
        images: [N, H, W, C] in [0, 1]; values outside are clipped.
        columns: images in a row; None for the least square that holds them all. Default None.
        gap: width of the lines in pixels. Default 2.

    Returns:
        uint8 [rows * (H + gap) - gap, columns * (W + gap) - gap, C].

    Raises:
        ValueError: no images, another number of axes, `columns` below 1 or `gap` below 0.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images: expected shape [N, H, W, C] with N >= 1. Received: {images.shape}")
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns: expected at least 1. Received: {columns}")
    if gap < 0:
        raise ValueError(f"gap: expected at least 0. Received: {gap}")
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:count] = to_uint8(images)
    # Each cell takes a line at its bottom and its right; the outermost are cut off again.
    cells = np.pad(cells, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=_GREY)
    height, width = height + gap, width + gap
    cells = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * height, columns * width, channels)[: rows * height - gap, : columns * width - gap]


def write_png(path, image):
    """Writes one image as PNG, to a temporary name first.

    Args:
        path: of the file; its folder must exist.
        image: uint8 [H, W, C], C 1 (grey) or 3 (RGB).

    Raises:
        ValueError: another type or number of channels.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image: expected uint8 [H, W, 1 or 3]. Received: {image.dtype} of shape {image.shape}")
    temporary = f"{path}.tmp"
    _picture(image).save(temporary, format="PNG")
    os.replace(temporary, path)


def _picture(image):
    return PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def save_animation(path, frames, milliseconds=80):
    """Writes frames as an animation that never ends, to a temporary name first.

    Args:
        path: of the file, whose name ends in .gif (256 colours a frame) or .webp (without loss).
        frames: list of uint8 arrays [H, W, 1 or 3] of one shape.
        milliseconds: time of each frame. Default 80.

    Raises:
        ValueError: another ending.
    """
    options = {".gif": {"format": "GIF"}, ".webp": {"format": "WEBP", "lossless": True}}
    suffix = os.path.splitext(path)[1]
    if suffix not in options:
        raise ValueError(f"path: expected a name ending in {' or '.join(options)}. Received: {path}")
    pictures = [_picture(frame) for frame in frames]
    temporary = f"{path}.tmp"
    pictures[0].save(
        temporary, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, **options[suffix]
    )
    os.replace(temporary, path)


def to_uint8(images):
    """uint8 of images in [0, 1]; values outside are clipped."""
    return np.rint(np.clip(np.asarray(images), 0.0, 1.0) * 255.0).astype(np.uint8)


def save_images(folder, images):
    """Writes images [N, H, W, C] in [0, 1] as 000000.png, 000001.png ... in a folder, which is made if need be."""
    os.makedirs(folder, exist_ok=True)
    for index, image in enumerate(to_uint8(images)):
        write_png(os.path.join(folder, f"{index:06}.png"), image)


def save_npz(path, **images):
    """Writes images [N, H, W, C] in [0, 1] as uint8 arrays, to a temporary name first."""
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **{name: to_uint8(values) for name, values in images.items()})
    os.replace(temporary, path)


def save_grid(path, images, columns=None):
    """Writes images [N, H, W, C] in [0, 1] as one PNG; see `grid` and `write_png`."""
    write_png(path, grid(images, columns))
