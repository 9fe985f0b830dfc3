"""Decoding of image files to pixels by the same rules."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.data.decode import DamagedImageError, decode, encode_png, to_channels

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = COLOUR[..., 0]
# Pillow's weights of the channels, each rounded to 1/65536.
LUMA = np.rint(COLOUR @ np.array([0.299, 0.587, 0.114]) - 1e-4)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png(size, depth, colour_type, rows, *chunks):
    """Builds PNG files that Pillow cannot write; `chunks` are (name, data) before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def values(data, channels):
    pixels = decode(data, channels, "x")
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == channels
    return pixels


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_colour(kind, options):
    data = saved(COLOUR, kind, **options)
    np.testing.assert_array_equal(values(data, 3), COLOUR)
    np.testing.assert_allclose(values(data, 1)[..., 0], LUMA, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_grey(kind):
    np.testing.assert_array_equal(values(saved(GREY, kind), 1)[..., 0], GREY)
    np.testing.assert_array_equal(values(saved(GREY, kind), 3), np.stack([GREY] * 3, axis=2))


def test_transparency_is_laid_over_white():
    alpha = RNG.integers(0, 256, (5, 7), np.uint8)
    alpha[0], alpha[1] = 0, 255
    share = alpha[..., np.newaxis] / 255
    expected = COLOUR * share + 255 * (1 - share)
    pixels = values(saved(np.dstack([COLOUR, alpha])), 3)
    np.testing.assert_allclose(pixels, expected, atol=1)
    assert (pixels[0] == 255).all() and (pixels[1] == COLOUR[1]).all()
    grey = values(saved(np.dstack([GREY, alpha])), 1)
    np.testing.assert_allclose(grey[..., 0], GREY * share[..., 0] + 255 * (1 - share[..., 0]), atol=1)


def test_palette():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    np.testing.assert_array_equal(values(saved(image), 3), [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]])
    see_through = saved(image, transparency=bytes([255, 0]))
    np.testing.assert_array_equal(values(see_through, 3), [[[10, 20, 30], [255] * 3, [70, 80, 90]]])


def test_the_high_byte_of_16_bits_counts():
    deep = np.array([[0, 255, 256, 0x12FF, 0xFFFF]], np.uint16)
    for data in (saved(deep), png((5, 1), 16, 0, b"\0" + deep.astype(">u2").tobytes())):
        assert values(data, 1).ravel().tolist() == [0, 0, 1, 0x12, 255]
        assert values(data, 3)[0, 3].tolist() == [0x12] * 3
    colour = np.array([0x1234, 0xABFF, 0xFFFF, 0x00FF, 0x0100, 0x8000], ">u2").tobytes()
    assert values(png((2, 1), 16, 2, b"\0" + colour), 3).tolist() == [[[0x12, 0xAB, 255], [0, 1, 0x80]]]
    with_alpha = np.array([0x1234, 0x5678, 0x9ABC, 0xFFFF, 1, 2, 3, 0], ">u2").tobytes()
    assert values(png((2, 1), 16, 6, b"\0" + with_alpha), 3).tolist() == [[[0x12, 0x56, 0x9A], [255] * 3]]


@pytest.mark.parametrize(
    ("colour_type", "depth"), [*((kind, depth) for kind in (0, 3) for depth in (1, 2, 4, 8)), (0, 16), (2, 8), (2, 16)]
)
def test_transparent_colours_of_every_kind_of_png(colour_type, depth):
    """Against libpng in TensorFlow. Colours are compared with all their bits: a neighbour in the last bit is opaque."""
    pixels = RNG.integers(0, 2**depth, (64, 3 if colour_type == 2 else 1))
    pixels[1:5] = pixels[0]
    pixels[2] ^= 1
    bits = "".join(f"{value:0{depth}b}" for value in pixels.ravel())
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    chunks = [(b"tRNS", pixels[0].astype(">u2").tobytes())]
    if colour_type == 3:
        chunks = [(b"PLTE", RNG.bytes(3 * 2**depth)), (b"tRNS", RNG.bytes(2**depth - 1))]
    data = png((64, 1), depth, colour_type, row, *chunks)
    reference = tf.io.decode_png(data, 4).numpy().astype(float)
    share = reference[..., 3:] / 255
    assert (share != 1).any() and (share == 1).any()
    np.testing.assert_allclose(values(data, 3), reference[..., :3] * share + 255 * (1 - share), atol=1)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg(mode):
    colour = (200, 40, 90)
    data = saved(Image.new("RGB", (16, 8), colour).convert(mode), "JPEG", quality=100)
    expected = [0.299 * 200 + 0.587 * 40 + 0.114 * 90] * 3 if mode == "L" else colour
    np.testing.assert_allclose(values(data, 3), np.broadcast_to(expected, (8, 16, 3)), atol=3)
    assert values(data, 1).shape == (8, 16, 1)


def turned(orientation, pixels):
    """The pixels of an upright image as a camera stores them, by the standard's table of row 0 and column 0."""
    flipped = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    swapped = pixels.transpose(1, 0, 2)
    flipped |= {5: swapped, 6: swapped[::-1], 7: swapped[::-1, ::-1], 8: swapped[:, ::-1]}
    return np.ascontiguousarray(flipped.get(orientation, pixels))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_images_are_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(turned(orientation, COLOUR), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(values(data, 3), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_several(kind):
    frames = [Image.fromarray(frame) for frame in (255 - COLOUR, GREY, COLOUR)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(COLOUR), kind, save_all=True, append_images=frames, **options)
    np.testing.assert_array_equal(values(data, 3), COLOUR)


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_claimed_size_is_refused_at_once(size):
    with pytest.raises(DamagedImageError, match=r"^x.png: expected .* Received: \d+ bytes \(.*pixels"):
        decode(png(size, 8, 2, b""), 3, "x.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_truncated_and_changed_files(kind):
    data = saved(RNG.integers(0, 256, (40, 30, 3), np.uint8), kind)
    for size in (1, 10, 30, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(DamagedImageError, match=f"^name: expected a PNG, .* image. Received: {size} bytes "):
            decode(data[:size], 3, "name")
    refused = 0
    for place in RNG.integers(0, len(data), 200):
        changed = bytearray(data)
        changed[place] ^= 0x55
        try:
            assert decode(bytes(changed), 3, "name").dtype == np.uint8
        except DamagedImageError:
            refused += 1
    assert refused > 190 if kind == "PNG" else refused < 200  # only PNG has a checksum


@pytest.mark.parametrize("data", [b"", b"text", b"\0" * 1000, saved(GREY, "GIF"), saved(GREY, "TIFF")])
def test_other_files(data):
    with pytest.raises(DamagedImageError) as error:
        decode(data, 3, "a/b.png")
    assert str(error.value) == (
        f"a/b.png: expected a PNG, JPEG, WebP or BMP image. Received: {len(data)} bytes (of none of these formats)"
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoded_pixels_follow_the_same_rule(shape, channels):
    pixels = RNG.integers(0, 256, shape, np.uint8)
    expected = decode(saved(pixels[..., 0] if shape[2:] == (1,) else pixels), channels, "x")
    np.testing.assert_array_equal(to_channels(pixels, channels, "x"), expected)


@pytest.mark.parametrize(
    ("pixels", "received"),
    [
        (np.zeros((5, 7, 2), np.uint8), r"uint8 \[5, 7, 2\]"),
        (np.zeros((5, 7, 3), np.float32), r"float32 \[5, 7, 3\]"),
        (np.zeros((0, 7, 3), np.uint8), r"uint8 \[0, 7, 3\]"),
        (np.zeros(7, np.uint8), r"uint8 \[7\]"),
    ],
)
def test_other_pixels(pixels, received):
    with pytest.raises(DamagedImageError, match=rf"^x: expected uint8 pixels \[H, W, .*\]. Received: {received}$"):
        to_channels(pixels, 3, "x")


@pytest.mark.parametrize("channels", [1, 3])
def test_encode_png_keeps_every_value(channels):
    pixels = COLOUR[..., :channels]
    data = encode_png(pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(decode(data, channels, "x"), pixels)
    assert encode_png(np.asfortranarray(pixels)) == data
