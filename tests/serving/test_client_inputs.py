import io

import numpy as np
import PIL.Image
import pytest

from nvae_tf.serving.inputs import check_inputs
from nvae_tf.serving.protocol import InputError, TensorSpec

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
        ("seed", [0.5, 1.0], "seed: expected int64. Received: float64"),
        ("seed", [True, False], "seed: expected int64. Received: bool"),
        ("seed", [2**63, 2**63], "seed: expected int64. Received: uint64"),
        ("seed", ["1", "2"], "seed: expected int64. Received: <U1"),
        ("seed", 1, "seed: expected shape [B]. Received: []"),
        ("seed", [[1], [2]], "seed: expected shape [B]. Received: [2, 1]"),
        ("seed", [[1], [2, 3]], "seed: expected int64. Received: "),
        ("seed", [1, 2, 3], "inputs: expected the same number of rows in each, at least one. Received: {'seed': 3, "),
        ("temperature", [0.5, 0.0], "temperature: expected positive, finite numbers. Received: 0.0"),
        ("temperature", [-1.0, 0.5], "temperature: expected positive, finite numbers. Received: -1.0"),
        ("temperature", [0.5, np.nan], "temperature: expected positive, finite numbers. Received: nan"),
        ("temperature", [0.5, np.inf], "temperature: expected positive, finite numbers. Received: inf"),
        ("temperature", np.array([1, 2]), "temperature: expected float32. Received: int64"),
        ("alpha", [0.5, 1.5], "alpha: expected numbers in [0, 1]. Received: 1.5"),
        ("alpha", [-0.5, 1.0], "alpha: expected numbers in [0, 1]. Received: -0.5"),
        ("alpha", [np.nan, 1.0], "alpha: expected numbers in [0, 1]. Received: nan"),
        ("image", _IMAGE[:, 1:], "image: expected shape [B, 6, 6, 1]. Received: [2, 5, 6, 1]"),
        ("image", _IMAGE[0], "image: expected shape [B, 6, 6, 1]. Received: [6, 6, 1]"),
        ("image", _IMAGE.astype(np.int64), "image: expected uint8. Received: int64"),
        ("image", _IMAGE / 255, "image: expected uint8. Received: float64"),
        ("noise_00", np.full((2, 2, 2, 3), np.nan), "noise_00: expected finite numbers. Received: nan"),
        ("noise_00", np.full((2, 2, 2, 3), -np.inf), "noise_00: expected finite numbers. Received: -inf"),
        ("image_bytes", [_PNG, _PNG[:40]], "image_bytes, row 1: expected a complete PNG or JPEG. Received: 40 bytes"),
        ("image_bytes", [_JPEG[:-40], _PNG], "image_bytes, row 0: expected a complete PNG or JPEG."),
        ("image_bytes", [b"", _PNG], "image_bytes, row 0: expected a complete PNG or JPEG. Received: 0 bytes"),
        ("image_bytes", [_file("GIF"), _PNG], "begin with b'GIF87a"),
        ("image_bytes", _PNG, "image_bytes: expected a list or object array of bytes. Received: bytes"),
        ("image_bytes", ["a.png", "b.png"], "image_bytes: expected a list or object array of bytes. Received: list"),
        ("image_bytes", np.array([_PNG, _PNG]), "image_bytes: expected a list or object array of bytes. Received: nda"),
    ],
)
def test_wrong_inputs_are_named(name, value, message):
    with pytest.raises(InputError) as error:
        check_inputs({**_RIGHT, name: value}, _SPECS)
    assert message in str(error.value)


@pytest.mark.parametrize("names", [["seed"], ["seed", "temperature", "more"]], ids=["missing", "unknown"])
def test_names_are_those_of_the_signature(names):
    specs = {name: _SPECS[name] for name in ("seed", "temperature")}
    with pytest.raises(InputError, match=r"inputs: expected \['seed', 'temperature'\]. Received: \['"):
        check_inputs(dict.fromkeys(names, [1.0]), specs)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="at least one"):
        check_inputs({"seed": np.zeros(0, np.int64)}, {"seed": _SPECS["seed"]})


def test_float_images_lie_in_the_unit_interval():
    specs = {"image": TensorSpec("float32", (None, 1))}
    assert check_inputs({"image": [[0.0], [1.0]]}, specs)["image"].dtype == np.float32
    with pytest.raises(InputError, match=r"image: expected numbers in \[0, 1\]. Received: 255.0"):
        check_inputs({"image": [[0.0], [255.0]]}, specs)
