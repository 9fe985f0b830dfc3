"""Hundreds of requests at once, half of them wrong: each gets the right code, and none harms the server or another."""

import collections
import concurrent.futures
import io
import json
import math
import struct
import zlib

import grpc
import numpy as np
import PIL.Image
import pytest
from tensorflow.core.framework.tensor_pb2 import TensorProto

_SEED = 6
_THREADS = 16
_MAX_ROWS = 16
# Wrong values are found in the graph and fail the merged batch. None are sent to these signatures, which must not fail.
_UNDISTURBED = ("score", "interpolate_seeds")


def _file(array, kind="PNG"):
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, kind)
    return file.getvalue()


def _png_claiming(height, width):
    """A PNG with this size in its header and the data of another."""
    data = _file(np.zeros([6, 6], np.uint8))
    header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


_PIXELS = np.random.default_rng(0).integers(0, 256, [40, 30, 3], np.uint8)
_PNG, _JPEG = _file(_PIXELS), _file(_PIXELS, "JPEG")
_SIZE_IN_JPEG = _JPEG.index(b"\xff\xc0") + 5
_GOOD_FILES = [_PNG, _JPEG, _file(_PIXELS[:6, :6, 0]), _file(_PIXELS[:1])]
_BAD_FILES = [
    *(b"", b"no image", _file(_PIXELS[..., 0], "GIF")),
    *(_PNG[:8], _PNG[:33], _PNG[: len(_PNG) // 2], _PNG[:60] + bytes([_PNG[60] ^ 1]) + _PNG[61:]),
    *(
        _png_claiming(0, 6),
        _png_claiming(4000, 4000),
        _png_claiming(60_000, 60_000),
        _png_claiming(2**31 - 1, 2**31 - 1),
    ),
    *(_JPEG[:3], _JPEG[: len(_JPEG) // 2], _JPEG[:_SIZE_IN_JPEG] + b"\xff" * 4 + _JPEG[_SIZE_IN_JPEG + 4 :]),
]


def _right_inputs(specs, rng):
    """Random inputs of a signature; specs: {name: {"dtype", "shape"}} of the model card."""
    rows, inputs = rng.integers(1, 4), {}
    for name, spec in specs.items():
        shape = [rows, *spec["shape"][1:]]
        if spec["dtype"] == "string":
            inputs[name] = np.array([_GOOD_FILES[i] for i in rng.integers(len(_GOOD_FILES), size=rows)], object)
        elif spec["dtype"] == "float32":
            draw = rng.standard_normal if name.startswith("noise") else rng.random
            inputs[name] = draw(shape, np.float32) + np.float32(name == "temperature") / 2
        else:
            limits = np.iinfo(spec["dtype"])
            inputs[name] = rng.integers(limits.min, limits.max, shape, spec["dtype"], endpoint=True)
    return inputs


# What is wrong by its form is refused before anything is merged. Each takes the inputs and a name among them.
_WRONG_FORMS = (
    lambda inputs, name: inputs | {name if len(inputs) > 1 else "other": np.repeat(inputs[name], 2, axis=0)},
    lambda inputs, name: {key: value for key, value in inputs.items() if key != name},
    lambda inputs, name: inputs | {name: np.zeros(inputs[name].shape, np.float64)},
    lambda inputs, name: inputs | {name: inputs[name].flat[0]},
    lambda inputs, name: inputs | {name: TensorProto(dtype=1, tensor_content=b"123")},
    lambda inputs, name: {key: value[:0] for key, value in inputs.items()},
    lambda inputs, name: {key: np.repeat(value[:1], _MAX_ROWS + 1, axis=0) for key, value in inputs.items()},
)


def _with_wrong_value(inputs, name, rng):
    """Inputs that only the graph can refuse, for a row's value or the shape of all rows."""
    values = inputs[name].copy()
    if rng.random() < 0.3 or values.dtype.kind in "iu":
        values = values[:, np.newaxis] if values.ndim == 1 else values[:, :1]
    elif values.dtype == object:
        values[-1] = _BAD_FILES[rng.integers(len(_BAD_FILES))]
    else:
        values[-1] = rng.choice([np.nan, np.inf, -np.inf] if name.startswith("noise") else [np.nan, np.inf, -1.0])
    return inputs | {name: values}


class Fuzz:
    """Requests to a server, with the answers to the right ones when each came alone."""

    def __init__(self, server, specs):
        self.server, rng = server, np.random.default_rng(_SEED)
        names = [name for name in sorted(specs) for _ in range(5)]
        self._right = [(name, _right_inputs(specs[name]["inputs"], rng)) for name in names]
        self._answers = [server.predict(*request) for request in self._right]

    def ask(self, number):
        """Sends request `number`, right or wrong, and checks what comes back; returns its kind."""
        rng = np.random.default_rng([_SEED, number])
        index = rng.integers(len(self._right))
        signature, inputs = self._right[index]
        name, kind = rng.choice(sorted(inputs)), str(rng.choice(["right", "form", "value"], p=[0.5, 0.3, 0.2]))
        if kind == "form":
            self._refusal(signature, rng.choice(_WRONG_FORMS)(inputs, name))
        elif kind == "value" and signature not in _UNDISTURBED:
            message = self._refusal(signature, _with_wrong_value(inputs, name, rng))
            # The name is of this request or of another that was merged with it.
            assert any(name in message for name in inputs), message
        else:
            kind = "right"
            while (answer := self._answer(signature, inputs)) is None:
                # A row of another request in the batch was wrong; then clients send theirs again.
                assert signature not in _UNDISTURBED
            _assert_same(answer, self._answers[index])
        return kind

    def _refusal(self, signature, inputs):
        with pytest.raises(grpc.RpcError) as error:
            self.server.predict(signature, inputs)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, error.value.details()
        return error.value.details()

    def _answer(self, signature, inputs):
        try:
            return self.server.predict(signature, inputs)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
            return None


def _assert_same(answer, expected):
    assert set(answer) == set(expected)
    for name, values in expected.items():
        if values.dtype == np.uint8:
            assert np.abs(answer[name].astype(int) - values).max() <= 1
        elif values.dtype == np.float32:
            np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def card(tiny_base):
    return json.loads((tiny_base / "1" / "assets.extra" / "model.json").read_text())


def test_every_request_gets_its_answer(stand_in, card):
    fuzz, count = Fuzz(stand_in, card["signatures"]), 400
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        kinds = collections.Counter(pool.map(fuzz.ask, range(count)))
    assert kinds["right"] > 0.4 * count and kinds["form"] > 0.2 * count and kinds["value"] > 0.05 * count
    assert stand_in.process.poll() is None
    assert stand_in.states() == {1: "AVAILABLE"}


def test_png_at_the_limit_and_beyond(stand_in, card):
    side = math.isqrt(card["image"]["max_pixels"])
    black, limit, beyond = (_file(np.zeros([rows, side], np.uint8)) for rows in (side // 64, side, side + 1))
    answers = [stand_in.predict("encode", {"image_bytes": [file]}) for file in (limit, black)]
    _assert_same(*answers)
    with pytest.raises(grpc.RpcError, match="image_bytes: expected an image of 1 to"):
        stand_in.predict("encode", {"image_bytes": [beyond]})
