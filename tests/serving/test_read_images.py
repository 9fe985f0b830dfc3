import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from nvae_tf.export.saved_model.decode_in_graph import decode_files
from nvae_tf.serving.protocol import InputError
from nvae_tf.serving.read_images import read_picture

_RGBA = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)


def _file(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _files():
    image = PIL.Image.fromarray(_RGBA)
    files = {mode: _file(image.convert(mode)) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")}
    for mode in ("L", "RGB", "P", "1"):
        converted = image.convert(mode)
        files[f"{mode}, one colour transparent"] = _file(converted, transparency=converted.getpixel((2, 3)))
    deep = (_RGBA[..., 0].astype(np.uint16) << 8) + _RGBA[..., 1]
    files["16 bits"] = _file(PIL.Image.fromarray(deep))
    files["16 bits, one grey transparent"] = _file(PIL.Image.fromarray(deep), transparency=int(deep[3, 2]))
    files["JPEG"] = _file(image.convert("L"), "JPEG")
    files["JPEG of colours"] = _file(image.convert("RGB"), "JPEG", subsampling=0)
    return files


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_that_the_server_sees(channels):
    files = _files()
    expected = decode_files("image_bytes", tf.constant(list(files.values())), 6, 8, channels).numpy()
    for (name, content), pixels in zip(files.items(), expected, strict=True):
        received = read_picture(name, content, (6, 8, channels))
        assert received.dtype == np.uint8 and received.shape == (6, 8, channels)
        differences = np.abs(received.astype(int) - pixels)
        assert differences.max() <= name.startswith("JPEG"), name
        if "transparent" in name:
            assert received[3, 2].min() == 255, name


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (b"text", (6, 8, 1), "a.png: expected a complete PNG or JPEG. Received: 4 bytes that begin with b'text'"),
        (_file(PIL.Image.new("L", (6, 8))), (6, 8, 1), "a.png: expected 8 x 6 pixels. Received: 6 x 8"),
        (b"", (6, 8, 2), "a.png: expected files only for models of 1 or 3 channels. Received: 2"),
    ],
    ids=["text", "size", "channels"],
)
def test_what_cannot_be_scored_is_named(content, shape, message):
    with pytest.raises(InputError, match=message):
        read_picture("a.png", content, shape)
