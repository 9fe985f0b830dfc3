"""Images as files: PNG, grids, animations and arrays. Every file is whole or absent."""

import math
import pathlib

import numpy as np
import PIL.Image

from nvae_tf.files import check_writable, new_file

_GREY, _GAP = 128, 2  # of the lines between images: level, width in pixels
_MIN_WIDTH = 512  # of a grid, in pixels


def to_uint8(images):
    """Converts images in [0, 1] to uint8; values outside are clipped."""
    return np.rint(np.clip(np.asarray(images), 0.0, 1.0) * 255.0).astype(np.uint8)


def grid(images, columns=None, scale=None):
    """Arranges images row by row, with grey lines of 2 pixels between them; unused cells are black.

    Args:
        images: [N, H, W, C] in [0, 1]; values outside are clipped.
        columns: images in a row; None for the smallest square that holds them all. Default None.
        scale: side, in pixels of the result, of a pixel of the images (nearest neighbour); None for the smallest that
            makes the result at least 512 wide. Default None.

    Returns:
        uint8 [rows * (H * scale + 2) - 2, columns * (W * scale + 2) - 2, C].
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = scale or max(1, math.ceil(((_MIN_WIDTH + _GAP) / columns - _GAP) / width))
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:count] = to_uint8(images)
    cells = cells.repeat(scale, axis=1).repeat(scale, axis=2)
    # Each cell gets a line at its bottom and its right; the outermost are cut off again.
    cells = np.pad(cells, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=_GREY)
    height, width = height * scale + _GAP, width * scale + _GAP
    cells = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * height, columns * width, channels)[: rows * height - _GAP, : columns * width - _GAP]


def to_pillow(image):
    """Converts uint8 [H, W, 1 or 3] to a `PIL.Image`."""
    return PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def write_png(path, image):
    """Writes an image, uint8 [H, W, 1 or 3], as a PNG file in an existing folder."""
    with new_file(path) as temporary:
        to_pillow(image).save(temporary)


def save_animation(path, frames, milliseconds=80):
    """Writes frames as an animation that repeats endlessly.

    Args:
        path: a name ending in .gif (256 colours in a frame) or .webp (lossless).
        frames: list of uint8 arrays [H, W, 1 or 3] of one shape.
        milliseconds: duration of each frame. Default 80.
    """
    options = {"lossless": True} if pathlib.Path(path).suffix == ".webp" else {}
    first, *others = map(to_pillow, frames)
    with new_file(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=milliseconds, loop=0, **options)


def check_no_images(folder):
    """Raises OSError unless a folder, which need not exist, can take images and has none: two draws would be mixed."""
    check_writable(folder)
    suffixes = PIL.Image.registered_extensions()
    there = sorted(path.name for path in pathlib.Path(folder).glob("*") if path.suffix.lower() in suffixes)
    if there:
        raise FileExistsError(f"{folder}: expected a folder without images. Received: {len(there)}, first {there[0]}")


def save_images(folder, images):
    """Writes images [N, H, W, C] in [0, 1] as 000000.png, 000001.png, ... to a folder, which is created if needed."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(to_uint8(images)):
        write_png(folder / f"{index:06}.png", image)


def save_npz(path, images):
    """Writes images [N, H, W, C] in [0, 1] as a uint8 array, `images`."""
    with new_file(path) as temporary:
        np.savez_compressed(temporary, images=to_uint8(images))


def save_grid(path, images, columns=None, scale=None):
    """Writes images [N, H, W, C] in [0, 1] as a PNG of their `grid`."""
    write_png(path, grid(images, columns, scale))
