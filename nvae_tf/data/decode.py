"""From the bytes of an image file to uint8 pixels of one shape, by one stated rule for every source."""

import dataclasses
import io

import numpy as np
from PIL import ExifTags, Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

# A few bytes may claim any size; more than this is refused before memory is taken for it.
MAX_PIXELS = 100_000_000
# Nor can a few bytes hold so many: Deflate packs 1,032 bytes, in PNG of up to 8 pixels each, into one, and JPEG and BMP
# pack less. WebP knows no such bound.
_MAX_PIXELS_PER_BYTE = 8 * 1032

_HIGH_BYTE = 8
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DamagedImageError(ValueError):
    """An image that cannot be read; the message names it and says why."""


def _upright(image):
    # Not ImageOps.exif_transpose: it also writes the EXIF data anew, which fails where any other tag is odd.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # no readable EXIF data says nothing against the pixels
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _is_deep(image):
    return image.mode == "I" or image.mode.startswith("I;16")


def _to_eight_bits(image):
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> _HIGH_BYTE).astype(np.uint8))


def _flatten(image, channels):
    if _is_deep(image):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def decode(data, channels, name):
    """Decodes an image file.

    The rule, whatever the file's kind: its first frame, turned upright as its EXIF tag says; of 16 bits the high byte
    counts; a palette is looked up; transparency is laid over white; grey is repeated for RGB, and colour becomes
    grey as 0.299 R + 0.587 G + 0.114 B.

    Args:
        data: bytes of a PNG, JPEG, WebP or BMP file.
        channels: 1 or 3.
        name: of the image, for the message.

    Returns:
        uint8, [H, W, channels].

    Raises:
        DamagedImageError: damaged, cut short, none of these formats, or of more pixels than `MAX_PIXELS` or than so few
            bytes can hold.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DamagedImageError(f"{width}x{height} pixels, expected at most {MAX_PIXELS}")
            # Pillow would make what is missing of them black.
            if image.format != "WEBP" and width * height > _MAX_PIXELS_PER_BYTE * len(data):
                raise DamagedImageError(f"{width}x{height} pixels, more than these bytes can hold")
            image.load()
            pixels = np.asarray(_flatten(_upright(image), channels))
    except Exception as error:  # a damaged file can make the decoders raise nearly anything
        raise DamagedImageError(
            f"{name}: expected a PNG, JPEG, WebP or BMP image. Received: {len(data)} bytes ({_reason(error)})"
        ) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _reason(error):
    # Pillow's own message for bytes of no known format shows the address of the buffer.
    return "of none of these formats" if isinstance(error, Image.UnidentifiedImageError) else error


def to_channels(pixels, channels, name):
    """The same rule for pixels that are already decoded.

    Args:
        pixels: uint8, [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
        channels: 1 or 3.
        name: of the image, for the message.

    Returns:
        uint8, [H, W, channels].

    Raises:
        DamagedImageError: another dtype or shape.
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
    """Brings an image to the size of its data set, or says that it has another.

    Attributes:
        height, width: of the result.
        crop: (top, left, bottom, right) of the part that counts, or None. It is cut from images of `crop_size` alone.
        crop_size: (height, width) of the images that `crop` is meant for.
        resize: whether a larger image is cut to the aspect ratio, in the middle, and resized. Otherwise another size is
            an error, so that a wrong folder does not pass for a data set.
        enlarge: whether the same happens to smaller images. Default False.
    """

    height: int
    width: int
    crop: tuple | None = None
    crop_size: tuple | None = None
    resize: bool = False
    enlarge: bool = False

    def __call__(self, pixels, name):
        """uint8 [height, width, C] of uint8 [H, W, C]; raises `ValueError` for a size that is not expected.

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
                f"{name}: expected an image of {expected} (height x width), or data.resize=True. "
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
