"""Thousands of requests at once, half of them wrong: each gets the right code, and none harms the server or another."""

import base64
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
_PREDICT = "/v1/models/nvae:predict"
# No wrong values are sent to these, which are found in the graph and fail the merged batch: they must never fail.
_UNDISTURBED = ("score", "interpolate_seeds")

Request = collections.namedtuple("Request", "signature inputs keywords", defaults=({},))


def _file(array, kind="PNG"):
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, kind)
    return file.getvalue()


def _png_claiming(height, width):
    """A PNG of the wanted header, with the data of another."""
    data = _file(np.zeros([6, 6], np.uint8))
    header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


_PIXELS = np.random.default_rng(0).integers(0, 256, [40, 30, 3], np.uint8)
_PNG, _JPEG = _file(_PIXELS), _file(_PIXELS, "JPEG")
_SIZE_IN_JPEG = _JPEG.index(b"\xff\xc0") + 5
_GOOD_FILES = [_PNG, _JPEG, _file(_PIXELS[:6, :6, 0]), _file(_PIXELS[:1])]
_BAD_FILES = {
    "empty": b"",
    "text": b"no image",
    "gif": _file(_PIXELS[..., 0], "GIF"),
    "png_mark_alone": _PNG[:8],
    "png_header_alone": _PNG[:33],
    "png_cut": _PNG[: len(_PNG) // 2],
    "png_damaged": _PNG[:60] + bytes([_PNG[60] ^ 1]) + _PNG[61:],
    "png_of_no_height": _png_claiming(0, 6),
    "png_of_60000": _png_claiming(60_000, 60_000),
    "png_of_2_to_the_31": _png_claiming(2**31 - 1, 2**31 - 1),
    "png_of_4000": _png_claiming(4000, 4000),
    "jpeg_mark_alone": _JPEG[:3],
    "jpeg_cut": _JPEG[: len(_JPEG) // 2],
    "jpeg_of_65535": _JPEG[:_SIZE_IN_JPEG] + b"\xff" * 4 + _JPEG[_SIZE_IN_JPEG + 4 :],
}


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


def _other_rows(inputs, name):
    """One row more in one input; with a single input, that of another signature."""
    return inputs | {name if len(inputs) > 1 else "other": np.repeat(inputs[name], 2, axis=0)}


# What is wrong by its form is refused before anything is merged. Each takes the inputs and a name among them.
_WRONG_FORMS = (
    _other_rows,
    lambda inputs, name: {key: value for key, value in inputs.items() if key != name},
    lambda inputs, name: inputs | {"other": inputs[name]},
    lambda inputs, name: inputs | {name: np.zeros(inputs[name].shape, np.float64)},
    lambda inputs, name: inputs | {name: inputs[name].flat[0]},
    lambda inputs, name: inputs | {name: TensorProto(dtype=1, tensor_content=b"123")},
    lambda inputs, name: {key: value[:0] for key, value in inputs.items()},
    lambda inputs, name: {key: np.repeat(value[:1], _MAX_ROWS + 1, axis=0) for key, value in inputs.items()},
    lambda inputs, name: {key: np.repeat(value[:1], 1000, axis=0) for key, value in inputs.items()},
)
_WRONG_ADDRESSES = (
    ("NOT_FOUND", {"keywords": {"name": "other"}}),
    ("NOT_FOUND", {"keywords": {"version": 99}}),
    ("NOT_FOUND", {"keywords": {"version_label": "other"}}),
    ("FAILED_PRECONDITION", {"signature": "other"}),
    ("INVALID_ARGUMENT", {"keywords": {"output_filter": ["other"]}}),
)


def _wrong_form(rng, right):
    name, kind = rng.choice(sorted(right.inputs)), rng.integers(len(_WRONG_FORMS) + len(_WRONG_ADDRESSES))
    if kind < len(_WRONG_FORMS):
        return "INVALID_ARGUMENT", right._replace(inputs=_WRONG_FORMS[kind](right.inputs, name))
    code, address = _WRONG_ADDRESSES[kind - len(_WRONG_FORMS)]
    return code, right._replace(**address)


def _wrong_value(rng, right):
    """What only the graph can refuse: a row's value, or the shape of all rows."""
    name = rng.choice(sorted(right.inputs))
    values = right.inputs[name].copy()
    if rng.random() < 0.3 or values.dtype.kind in "iu":
        values = values[:, np.newaxis] if values.ndim == 1 else values[:, :1]
    elif values.dtype == object:
        values[-1] = _BAD_FILES[rng.choice(sorted(_BAD_FILES))]
    else:
        values[-1] = rng.choice([np.nan, np.inf, -np.inf] if name.startswith("noise") else [np.nan, np.inf, -1.0])
    return "INVALID_ARGUMENT", right._replace(inputs=right.inputs | {name: values})


class Fuzz:
    """Requests to a server, and what it answered to the right ones when each came alone."""

    def __init__(self, server, specs):
        self.server = server
        rng = np.random.default_rng(_SEED)
        self._right = [
            Request(name, _right_inputs(spec["inputs"], rng)) for name, spec in sorted(specs.items()) for _ in range(5)
        ]
        self._answers = [server.predict(*request[:2]) for request in self._right]

    def ask(self, number):
        """Sends request `number`, right or wrong, and checks what comes back; returns what kind of request it was."""
        rng = np.random.default_rng([_SEED, number])
        index = rng.integers(len(self._right))
        right = self._right[index]
        kind = str(rng.choice(["right", "right by REST", "form", "value", "JSON"], p=[0.5, 0.05, 0.25, 0.15, 0.05]))
        if kind == "form":
            self._assert_refused(*_wrong_form(rng, right))
        elif kind == "JSON":
            body = self._body(right)
            status, answer = self.server.rest(_PREDICT, body[: rng.integers(len(body))])
            assert (status, list(answer)) == (400, ["error"])
        elif kind == "value" and right.signature not in _UNDISTURBED:
            message = self._assert_refused(*_wrong_value(rng, right))
            # Of this request or of another that was merged with it.
            assert any(name in message for name in right.inputs), message
        else:
            self._assert_answered(right, self._answers[index], self._rest if kind == "right by REST" else self._grpc)
            kind = "right"
        return kind

    def _assert_refused(self, code, request):
        with pytest.raises(grpc.RpcError) as error:
            self.server.predict(request.signature, request.inputs, **request.keywords)
        assert error.value.code().name == code, error.value.details()
        return error.value.details()

    def _assert_answered(self, request, expected, send):
        answer = send(request)
        while answer is None:
            # A row of another request in the batch was wrong: a server fails the batch, and its clients ask again.
            assert request.signature not in _UNDISTURBED
            answer = send(request)
        _assert_right(answer, expected)

    def _grpc(self, request):
        try:
            return self.server.predict(request.signature, request.inputs)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
            return None

    def _rest(self, request):
        status, answer = self.server.rest(_PREDICT, self._body(request))
        assert status in (200, 400), answer
        return {name: np.array(values) for name, values in answer["outputs"].items()} if status == 200 else None

    def _body(self, request):
        inputs = {name: value.tolist() for name, value in request.inputs.items()}
        for name, values in inputs.items():
            if isinstance(values[0], bytes):
                inputs[name] = [{"b64": base64.b64encode(file).decode()} for file in values]
        return json.dumps({"signature_name": request.signature, "inputs": inputs}).encode()


def _assert_right(answer, expected):
    assert set(answer) == set(expected)
    for name, values in expected.items():
        if values.dtype == np.uint8:
            assert np.abs(answer[name].astype(int) - values).max() <= 1
        elif values.dtype == np.float32:
            np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def card(tiny_base):
    return json.loads((tiny_base / "1" / "assets.extra" / "model.json").read_text())


@pytest.fixture(scope="module")
def fuzz(stand_in, card):
    return Fuzz(stand_in, card["signatures"])


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_every_request_gets_its_answer(fuzz, stand_in, count):
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        kinds = collections.Counter(pool.map(fuzz.ask, range(count)))
    assert kinds["right"] > 0.5 * count and kinds["form"] > 0.2 * count and kinds["value"] > 0.05 * count
    assert stand_in.process.poll() is None
    assert stand_in.states() == {1: "AVAILABLE"}


def test_png_at_the_limit_and_beyond(stand_in, card):
    side = math.isqrt(card["image"]["max_pixels"])
    black, limit, beyond = (_file(np.zeros([rows, side], np.uint8)) for rows in (side // 64, side, side + 1))
    _assert_right(
        stand_in.predict("encode", {"image_bytes": [limit]}), stand_in.predict("encode", {"image_bytes": [black]})
    )
    with pytest.raises(grpc.RpcError, match="image_bytes: expected an image of 1 to"):
        stand_in.predict("encode", {"image_bytes": [beyond]})
