"""Messages, and inputs that are wrong in ways that the checks of a server (check/test_refusals.py) do not try."""

import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from nvae_tf.serving.inputs import check_inputs
from nvae_tf.serving.protocol import InputError, TensorSpec
from nvae_tf.serving.read_images import read_picture

_IMAGE = np.zeros((2, 6, 6, 1), np.uint8)
_SPECS = {
    "seed": TensorSpec("int64", (None,)),
    "temperature": TensorSpec("float32", (None,)),
    "alpha": TensorSpec("float32", (None,)),
    "image": TensorSpec("uint8", (None, 6, 6, 1)),
    "noise_00": TensorSpec("float32", (None, 2, 2, 3)),
    "image_bytes": TensorSpec("string", (None,)),
}


def _file(kind):
    file = io.BytesIO()
    PIL.Image.new("L", (6, 6)).save(file, kind)
    return file.getvalue()


_PNG, _JPEG = _file("PNG"), _file("JPEG")
_RIGHT = {
    "seed": [1, -2],
    "temperature": [0.5, 1.0],
    "alpha": [0.0, 1.0],
    "image": _IMAGE,
    "noise_00": np.zeros((2, 2, 2, 3)),
    "image_bytes": [_PNG, _JPEG],
}


def test_right_inputs_get_the_dtypes_of_the_signature():
    arrays = check_inputs({**_RIGHT, "seed": np.array([1, 2], np.uint32)}, _SPECS)
    kinds = {name: "string" if array.dtype == object else array.dtype.name for name, array in arrays.items()}
    assert kinds == {name: spec.dtype for name, spec in _SPECS.items()}
    assert arrays["image_bytes"].tolist() == [_PNG, _JPEG] and arrays["seed"].tolist() == [1, 2]


def test_seeds_keep_all_their_bits():
    seeds = [2**63 - 1, -(2**63)]
    assert check_inputs({"seed": seeds}, {"seed": _SPECS["seed"]})["seed"].tolist() == seeds


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", [True, False], "seed: expected int64. Received: bool"),
        ("seed", [2**63, 1], f"seed: expected integers from {-(2**63)} to {2**63 - 1}. Received: {2**63}"),
        ("seed", [-1, 2**63], f"seed: expected integers from {-(2**63)} to {2**63 - 1}. Received: {2**63}"),
        ("seed", [1.0, 2.0], "seed: expected int64. Received: float64"),
        ("seed", [], "seed: expected at least one row. Received: none"),
        ("image", _IMAGE[:0], "image: expected at least one row. Received: none"),
        ("image_bytes", [], "image_bytes: expected at least one row. Received: none"),
        ("seed", 1, "seed: expected shape [B]. Received: []"),
        ("seed", [[1], [2, 3]], "seed: expected int64. Received: "),
        ("seed", [1, 2, 3], "inputs: expected the same number of rows in each. Received: {'seed': 3, "),
        ("temperature", [0.5, 0.0], "temperature: expected positive, finite numbers. Received: 0.0"),
        ("temperature", [0.5, np.nan], "temperature: expected positive, finite numbers. Received: nan"),
        ("temperature", np.array([1, 2]), "temperature: expected float32. Received: int64"),
        ("alpha", [0.5, 1.5], "alpha: expected numbers in [0, 1]. Received: 1.5"),
        ("image", _IMAGE[:, 1:], "image: expected shape [B, 6, 6, 1]. Received: [2, 5, 6, 1]"),
        ("image", _IMAGE.astype(np.int64), "image: expected uint8. Received: int64"),
        ("noise_00", np.full((2, 2, 2, 3), -np.inf), "noise_00: expected finite numbers. Received: -inf"),
        ("image_bytes", [_PNG, _PNG[:40]], "image_bytes, row 1: expected a complete PNG or JPEG. Received: 40 bytes"),
        ("image_bytes", [_JPEG[:-40], _PNG], "image_bytes, row 0: expected a complete PNG or JPEG."),
        ("image_bytes", [_file("GIF"), _PNG], "begin with b'GIF87a"),
        ("image_bytes", _PNG, "image_bytes: expected a list or object array of bytes. Received: bytes"),
        (
            "image_bytes",
            [_PNG, "b.png"],
            "image_bytes, row 1: expected the bytes of a file. Received: the path 'b.png'",
        ),
        (
            "image_bytes",
            [pathlib.Path("a"), 1],
            "image_bytes, row 0: expected the bytes of a file. Received: the path 'a'",
        ),
        ("image_bytes", [_PNG, _IMAGE[0]], "image_bytes, row 1: expected the bytes of a file. Received: ndarray"),
        ("image_bytes", np.array([_PNG, _PNG]), "expected a list or object array of bytes. Received: an array of |S"),
    ],
)
def test_wrong_inputs_are_named(name, value, message):
    with pytest.raises(InputError) as error:
        check_inputs({**_RIGHT, name: value}, _SPECS)
    assert message in str(error.value)


def test_pixels_have_one_or_three_channels():
    with pytest.raises(InputError, match="a.png: expected files only for models of 1 or 3 channels. Received: 2"):
        read_picture("a.png", _PNG, (6, 6, 2))
