"""Decodes image files to uint8 pixels of one shape, with the same rules for every source."""

import dataclasses
import io

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp")
_LEVELS = {"L;2": 85, "L;4": 17}  # to which Pillow multiplies the pixels, but not the transparent level


class DamagedImageError(ValueError):
    """An image that cannot be read; the message names the image and the reason."""


def _upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels may be fine even if the EXIF data are not
        return image


def _make_colour_transparent(image, data):
    """Makes the transparent colour of a PNG right, which Pillow compares with pixels of 8 bits."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or colour is None:
        return
    with Image.open(io.BytesIO(data)) as low:
        raw_mode = low.tile[0].args
        if raw_mode in _LEVELS:
            image.info["transparency"] = colour * _LEVELS[raw_mode]
        elif raw_mode == "RGB;16B":  # of which Pillow has read the high bytes
            low.tile = [low.tile[0]._replace(args="RGB;16L")]
            values = np.asarray(image) * np.uint16(256) + np.asarray(low)
            image.putalpha(Image.fromarray((values != colour).any(2)))
            del image.info["transparency"]


def _flatten(image, channels):
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits: Pillow would clip all values above 255
        values, level = np.asarray(image).astype(np.int64), image.info.get("transparency")
        image = Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
        if level is not None:
            image.putalpha(Image.fromarray(values != level))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def decode(data, channels, name):
    """Decodes an image file.

    The rules are the same for every format: the first frame is turned upright according to its EXIF tag; 16-bit
    values keep their high byte; palettes are resolved; transparent images, also those with one transparent colour, are
    laid over white; grey is repeated for RGB, and colour becomes grey as 0.299 R + 0.587 G + 0.114 B.

    Args:
        data: bytes of a PNG, JPEG, WebP or BMP file.
        channels: 1 or 3.
        name: name of the image, for the message.

    Returns:
        uint8, [H, W, channels].

    Raises:
        DamagedImageError: the file is damaged, truncated or of another format, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            _make_colour_transparent(image, data)
            pixels = np.asarray(_flatten(_upright(image), channels))
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        # Pillow's own message for an unknown format contains the address of the buffer.
        reason = "of none of these formats" if isinstance(error, Image.UnidentifiedImageError) else error
        raise DamagedImageError(
            f"{name}: expected a PNG, JPEG, WebP or BMP image. Received: {len(data)} bytes ({reason})"
        ) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def to_channels(pixels, channels, name):
    """Applies the rules of `decode` to decoded pixels, uint8 [H, W] or [H, W, 1, 3 or 4]: uint8 [H, W, channels].

    Another dtype or shape raises `DamagedImageError`.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise DamagedImageError(
            f"{name}: expected uint8 pixels [H, W, 1, 3 or 4]. Received: {pixels.dtype} {list(pixels.shape)}"
        )
    if pixels.shape[2] == channels:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    flat = np.asarray(_flatten(image, channels))
    return flat.reshape(*flat.shape[:2], channels)


def encode_png(pixels):
    """PNG bytes of uint8 [H, W, 1 or 3]; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """Crops and resizes images to the size of their data set.

    Attributes:
        height, width: size of the result.
        crop: (top, left, bottom, right) of the part to keep, or None. Only images of `crop_size` are cropped.
        crop_size: (height, width) of the images that `crop` is meant for.
        resize: whether to crop larger images to the aspect ratio, around the centre, and resize them. If not, another
            size is an error, so that a wrong folder is not mistaken for the data set. Default False.
        enlarge: whether to do the same with smaller images. Default False.
    """

    height: int
    width: int
    crop: tuple | None = None
    crop_size: tuple | None = None
    resize: bool = False
    enlarge: bool = False

    def __call__(self, pixels, name):
        """Fits an image, uint8 [H, W, C], to [height, width, C]; raises `ValueError` for an unexpected size.

        Resizing is antialiased (bilinear over the support of the smaller image).
        """
        size = pixels.shape[:2]
        if size == (self.height, self.width):
            return pixels
        if self.crop is not None and size == self.crop_size:
            top, left, bottom, right = self.crop
            return self._resized(pixels[top:bottom, left:right])
        smaller = size[0] < self.height or size[1] < self.width
        if not self.resize or (smaller and not self.enlarge):
            expected = " or ".join(f"{h}x{w}" for h, w in filter(None, ((self.height, self.width), self.crop_size)))
            raise ValueError(
                f"{name}: expected an image of {expected} (height x width), or resize=True. "
                f"Received: {size[0]}x{size[1]}"
            )
        return self._resized(self._to_aspect(pixels))

    def _to_aspect(self, pixels):
        height, width = pixels.shape[:2]
        new_height = max(min(height, round(width * self.height / self.width)), 1)
        new_width = max(min(width, round(height * self.width / self.height)), 1)
        top, left = (height - new_height) // 2, (width - new_width) // 2
        return pixels[top : top + new_height, left : left + new_width]

    def _resized(self, pixels):
        channels = pixels.shape[2]
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
        image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self.height, self.width, channels)
