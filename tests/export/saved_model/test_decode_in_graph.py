"""Images inside the graph, against how training and the client read them."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nvae_tf.config import ModelConfig
from nvae_tf.data.decode import Fit, decode
from nvae_tf.export.saved_model.decode_in_graph import decode_files, to_bytes, to_model
from nvae_tf.serving.read_images import read_picture

_RNG = np.random.default_rng(0)


def _file(mode, size=(8, 8), kind="PNG", transparent=False, **options):
    """A smooth image; where it is `transparent`, in the colour of the pixel in row 3, column 2."""
    smooth = np.asarray(Image.fromarray(_RNG.integers(0, 256, (4, 4, 4), np.uint8), "RGBA").resize(size))
    image = Image.fromarray(smooth, "RGBA").convert(mode)
    if transparent:
        options["transparency"] = image.getpixel((2, 3))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _deep_file():
    buffer = io.BytesIO()
    Image.fromarray(_RNG.integers(0, 65536, (8, 8)).astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


_FILES = {mode: _file(mode) for mode in ("L", "RGB", "RGBA", "LA", "P", "1")}
_FILES |= {f"P of {bits} bits": _file("P", bits=bits) for bits in (1, 2, 4)}
_FILES |= {f"{mode}, one colour transparent": _file(mode, transparent=True) for mode in ("L", "RGB", "P", "1")}
_FILES |= {"16 bits": _deep_file(), "JPEG": _file("L", kind="JPEG")}
_FILES |= {"JPEG of colours": _file("RGB", kind="JPEG", quality=95, subsampling=0)}


@pytest.fixture(scope="module")
def read():
    """Function that decodes files to uint8 [B, 8, 8, channels]; traced once for each number of channels."""
    functions = {
        channels: tf.function(
            lambda files, channels=channels: decode_files("image_bytes", files, 8, 8, channels),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )
        for channels in (1, 3)
    }
    return lambda files, channels: functions[channels](tf.constant(files)).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", _FILES)
def test_files_are_read_as_training_and_the_client_read_them(read, name, channels):
    data = _FILES[name]
    received = read([data, data], channels).astype(int)
    # Transparency is rounded once here and in steps in training.
    assert np.abs(received - decode(data, channels, "file")).max() <= ("A" in name or "JPEG" in name)
    assert np.abs(received - read_picture("file", data, (8, 8, channels))).max() <= ("JPEG" in name)
    if "transparent" in name:
        assert received[0, 3, 2].min() == 255


@pytest.mark.parametrize("transparent", [None, 4])
def test_grey_of_four_bits(read, transparent):
    """A kind of image that Pillow reads but does not write."""
    values = range(8)
    lines = b"".join(bytes([0, *[value << 4 | value] * 4]) for value in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 4, 0, 0, 0, 0))]
    chunks += [] if transparent is None else [(b"tRNS", struct.pack(">H", transparent))]
    chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    assert read([data], 3)[0, :, 0, 0].tolist() == [255 if value == transparent else 17 * value for value in values]


@pytest.mark.parametrize("size", [(16, 16), (20, 9), (7, 31), (5, 4)])
def test_another_size_is_cropped_in_the_middle_and_resized(read, size):
    data = _file("RGB", size)
    expected = Fit(8, 8, resize=True, enlarge=True)(decode(data, 3, "file"), "file")
    assert np.abs(read([data], 3)[0] - expected.astype(int)).max() <= 1


def _png_that_claims(width, height):
    data = bytearray(_file("L"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "image_bytes: expected a PNG or JPEG file"),
        (b"GIF89a" + bytes(50), "image_bytes: expected a PNG or JPEG file"),
        (_file("L")[:20], "image_bytes: expected a PNG or JPEG file"),
        (_file("L")[:60], "image_bytes"),
        (_file("RGB", kind="JPEG")[:100], "image_bytes"),
        (_png_that_claims(60000, 60000), "image_bytes: expected an image of 1 to 16777216 pixels"),
        (_png_that_claims(0, 8), "image_bytes: expected an image of 1 to 16777216 pixels"),
        (_png_that_claims(2**31 + 8, 8), "image_bytes: expected an image of 1 to 16777216 pixels"),
    ],
    ids=["empty", "gif", "short", "cut_png", "cut_jpeg", "huge", "no_pixels", "negative"],
)
def test_a_wrong_file_is_an_invalid_argument_that_names_the_input(read, data, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        read([_file("L"), data], 1)


@pytest.mark.parametrize("bit_depth, expected", [(8, [0, 127, 128, 255]), (5, [0, 15, 16, 31]), (1, [0, 0, 1, 1])])
def test_the_model_sees_its_bit_depth_and_padding(bit_depth, expected):
    config = ModelConfig(image_height=32, image_width=32, bit_depth=bit_depth, padding=1)
    images = np.array([0, 127, 128, 255], np.uint8).reshape(1, 2, 2, 1)
    seen = to_model(images, config, binarize=False).numpy()
    np.testing.assert_allclose(seen[0, 1:3, 1:3].ravel(), np.array(expected) / (2**bit_depth - 1), rtol=1e-6)
    assert seen.shape == (1, 4, 4, 1) and seen[0, 0].max() == 0


def test_a_binary_model_sees_black_and_white():
    images = np.array([0, 127, 128, 255], np.uint8).reshape(1, 2, 2, 1)
    seen = to_model(images, ModelConfig(), binarize=True).numpy()
    np.testing.assert_array_equal(seen.ravel(), [0, 0, 1, 1])


def test_images_are_rounded_to_bytes():
    np.testing.assert_array_equal(to_bytes(tf.constant([-1.0, 0.0, 0.4999 / 255, 1.0, 2.0])), [0, 0, 0, 255, 255])
