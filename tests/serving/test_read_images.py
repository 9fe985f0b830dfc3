"""Files that cannot be scored; tests/export/saved_model/test_decode_in_graph.py compares how others are read."""

import io

import PIL.Image
import pytest

from nvae_tf.serving.protocol import InputError
from nvae_tf.serving.read_images import read_picture


def _wide():
    file = io.BytesIO()
    PIL.Image.new("L", (6, 8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (b"text", (6, 8, 1), "a.png: expected a complete PNG or JPEG. Received: 4 bytes that begin with b'text'"),
        (_wide(), (6, 8, 1), "a.png: expected 8 x 6 pixels. Received: 6 x 8"),
        (b"", (6, 8, 2), "a.png: expected files only for models of 1 or 3 channels. Received: 2"),
    ],
    ids=["text", "size", "channels"],
)
def test_what_cannot_be_scored_is_named(content, shape, message):
    with pytest.raises(InputError, match=message):
        read_picture("a.png", content, shape)
