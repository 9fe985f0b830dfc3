"""Reads image files as the server does, for signatures that take pixels."""

import io

import numpy as np
import PIL.Image

from nvae_tf.serving.protocol import InputError


def open_picture(name, content):
    """Loads the bytes of a file as `PIL.Image.Image`; InputError, naming `name`, unless a complete PNG or JPEG."""
    try:
        picture = PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        picture.load()
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        received = f"{len(content)} bytes that begin with {content[:8]!r}"
        raise InputError(f"{name}: expected a complete PNG or JPEG. Received: {received}") from error
    return picture


def read_picture(name, content, shape):
    """Pixels of an image file's bytes by the rule `decoding` of the model card, except that images are not resized.

    `shape` is the (height, width, channels) of the model and of the uint8 array returned. InputError, naming `name`, if
    it is not a complete PNG or JPEG or of another size, or if the model has other than 1 or 3 channels.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(f"{name}: expected files only for models of 1 or 3 channels. Received: {channels}")
    picture = open_picture(name, content)
    if picture.size != (width, height):
        size = f"{picture.width} x {picture.height}"
        raise InputError(f"{name}: expected {width} x {height} pixels. Received: {size}")
    rgb = _over_white(picture)
    if channels == 1:
        # The weights of ITU-R 601 in 16 bits, which leave grey unchanged.
        rgb = (rgb @ [19595, 38470, 7471] + 32768 >> 16)[..., np.newaxis]
    return rgb.astype(np.uint8)


def _over_white(picture):
    """int [H, W, 3]."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        values = np.asarray(picture).astype(int)
        grey = np.where(values == picture.info.get("transparency", -1), 255, values >> 8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    rgba = np.asarray(picture.convert("RGBA")).astype(int)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return (colour * alpha + 255 * (255 - alpha) + 127) // 255
