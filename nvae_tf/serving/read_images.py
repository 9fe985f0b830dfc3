"""Image files as the server sees them, for signatures that take pixels."""

import io

import numpy as np
import PIL.Image

from nvae_tf.serving.protocol import InputError


def open_picture(name, content):
    """`PIL.Image.Image` of a PNG or JPEG file, loaded.

    Args:
        name: for the message.
        content: bytes of the file.

    Raises:
        InputError: no whole PNG or JPEG.
    """
    try:
        picture = PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        picture.load()
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        received = f"{len(content)} bytes that begin with {content[:8]!r}"
        raise InputError(f"{name}: expected a whole PNG or JPEG. Received: {received}") from error
    return picture


def read_picture(name, content, shape):
    """Pixels of an image file by the rule of the model card (`decoding`), except that no size is changed.

    Of 16 bits the high byte counts, transparency is laid over white, grey is repeated for RGB, colour becomes grey as
    0.299 R + 0.587 G + 0.114 B; EXIF orientation is not read.

    Args:
        name: for the messages.
        content: bytes of a PNG or JPEG file.
        shape: (height, width, channels) of the model.

    Returns:
        uint8 [height, width, channels].

    Raises:
        InputError: no whole PNG or JPEG, of another size, or for a model of other than 1 or 3 channels.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(f"{name}: expected files for models of 1 or 3 channels alone. Received: {channels}")
    picture = open_picture(name, content)
    if picture.size != (width, height):
        size = f"{picture.width} x {picture.height}"
        raise InputError(f"{name}: expected {width} x {height} pixels. Received: {size}")
    rgb = _over_white(picture)
    if channels == 1:
        # The weights of ITU-R 601 in 16 bits: grey stays as it is.
        rgb = (rgb @ [19595, 38470, 7471] + 32768 >> 16)[..., np.newaxis]
    return rgb.astype(np.uint8)


def _over_white(picture):
    """int [H, W, 3]."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        values = np.asarray(picture).astype(int)
        grey = np.where(values == picture.info.get("transparency", -1), 255, values >> 8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    rgba = np.asarray(picture.convert("RGBA")).astype(int)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return (colour * alpha + 255 * (255 - alpha) + 127) // 255
