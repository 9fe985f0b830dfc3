"""Checks that a server refuses wrong requests with the right code, and still answers afterwards."""

import functools
import struct
import zlib
from typing import NamedTuple

import numpy as np

from nvae_tf.serving.check.conformance import Check, CheckFailedError, expect_same
from nvae_tf.serving.protocol import ModelSpec, ServerError
from nvae_tf.serving.rest_transport import json_value

_UNKNOWN = "no_such_thing"
_UNKNOWN_VERSION = 2**40
_MESSAGE_LENGTH = 100
_OUTSIDE = (np.nan, -0.5, 1.5)  # of [0, 1]
_WRONG_NUMBERS = {"temperature": (np.nan, np.inf, -1.0, 0.0), "alpha": _OUTSIDE, "image": _OUTSIDE}


class WrongInput(NamedTuple):
    """A request that must be INVALID_ARGUMENT.

    Attributes:
        what: what is wrong with it.
        signature: name of the signature.
        inputs: `{name: array}`.
        named: name of an input that must be in the message; empty if a server may refuse the request, in its own words,
            before the graph runs.
        in_json: False if the request is not wrong in REST, where JSON has no dtypes and unknown names may be ignored.
    """

    what: str
    signature: str
    inputs: dict
    named: str = ""
    in_json: bool = True


def wrong_inputs(examples):
    """List of `WrongInput` with one fault each, for the signatures of a model.

    Args:
        examples: correct inputs, `{signature name: inputs}`.
    """
    examples = {name: inputs for name, inputs in examples.items() if name != "serving_default"}  # which is sample
    return [*_wrong_rows(examples), *_wrong_values(examples), *_wrong_shapes(examples)]


def _wrong_rows(examples):
    """Wrong dtypes, numbers of rows and names in `sample`."""
    right = examples["sample"]
    seed, temperature = right["seed"], right["temperature"]
    wrong = functools.partial(_changed, examples, "sample")
    yield wrong("seed without a batch", seed=seed[0])
    yield wrong("seed of floats", seed=(seed + 0.5).astype(np.float32))
    yield wrong("more seeds than temperatures", seed=np.append(seed, seed))
    yield wrong("temperature of float64", temperature=temperature.astype(np.float64))._replace(in_json=False)
    yield wrong("an input too many", no_such_input=seed)._replace(in_json=False)
    yield WrongInput("an input too few", "sample", {"seed": seed})


def _wrong_values(examples):
    """Numbers and files that are wrong in one row, in every input of every signature that takes them."""
    for signature, inputs in sorted(examples.items()):
        noise = sorted(name for name in inputs if name.startswith("noise_"))
        for name, array in inputs.items():
            if name in noise[1:-1]:  # a model may have forty, and each request may be megabytes of JSON
                continue
            values = {}
            if array.dtype == object:
                values = _wrong_files(array[0])
            elif array.dtype.kind == "f":
                values = {str(value): value for value in _WRONG_NUMBERS.get(name, (np.nan,))}
            for what, value in values.items():
                changed = _changed(examples, signature, f"{what} in {name}", **{name: _with_first(array, value)})
                yield changed._replace(named=name)


def _wrong_files(right):
    """Byte strings that are not a PNG or JPEG."""
    return {
        "half a PNG": right[: len(right) // 2],
        "a PNG that claims 100,000 x 100,000 pixels": _huge_png(),
        "a text": b"not an image",
        "an empty file": b"",
    }


def _wrong_shapes(examples):
    """Shapes that only the graph can refuse, because the other rows of the batch may have the same."""
    sample = examples["sample"]
    for name, array in sample.items():
        changed = _changed(examples, "sample", f"{name} of rank 2", **{name: array[:, np.newaxis]})
        yield changed._replace(named=name)
    if "score" in examples:
        image = examples["score"]["image"]
        wrong = functools.partial(_changed, examples, "score")
        yield wrong("image of another height", image=image[:, 1:])._replace(named="image")
        yield wrong("image without channels", image=image[..., 0])._replace(named="image")
        yield wrong("image of floats", image=np.full(image.shape, 0.5, np.float32))
    if "decode" in examples:
        name = min(name for name in examples["decode"] if name.startswith("noise_"))
        # An addition would silently broadcast it over the height.
        changed = _changed(examples, "decode", f"{name} of height 1", **{name: examples["decode"][name][:, :1]})
        yield changed._replace(named=name)


def _changed(examples, signature, what, **changes):
    return WrongInput(what, signature, {**examples[signature], **changes})


def _with_first(array, value):
    """A copy with another first row."""
    copy = array.copy()
    copy[0] = value
    return copy


def _huge_png():
    """A PNG of about a hundred bytes whose header claims an image of 10 GB."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_001))), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def refusal_checks(target):
    """Yields a `Check` for everything that a server must refuse, and one that it still answers afterwards."""
    for protocol in target.transports:
        yield from _addressing(target, protocol)
        for wrong in wrong_inputs(target.examples):
            if wrong.in_json or protocol != "rest":
                call = functools.partial(target.predict, protocol, wrong.signature, wrong.inputs)
                what = f"{wrong.signature}, {wrong.what}"
                yield _refusal(protocol, what, call, "INVALID_ARGUMENT", named=wrong.named)
    if "rest" in target.transports:
        yield from _bodies(target)
    for protocol in target.transports:
        yield Check(f"{protocol}: answers after all refusals as before", functools.partial(_lives, target, protocol))


def _addressing(target, protocol):
    transport, right, name = target.transports[protocol], target.examples["sample"], target.model.name
    for what, model in (("model", ModelSpec(_UNKNOWN)), ("version", ModelSpec(name, _UNKNOWN_VERSION))):
        call = functools.partial(target.predict, protocol, "sample", right, model)
        yield _refusal(protocol, f"unknown {what}", call, "NOT_FOUND")
        for question in (transport.status, transport.metadata):
            call = functools.partial(question, model, target.timeout)
            yield _refusal(protocol, f"{question.__name__} of an unknown {what}", call, "NOT_FOUND")
    call = functools.partial(target.predict, protocol, "sample", right, ModelSpec(name, None, _UNKNOWN))
    # The contract names no code for labels.
    yield _refusal(protocol, "unknown label", call, "NOT_FOUND", "INVALID_ARGUMENT")
    call = functools.partial(target.predict, protocol, _UNKNOWN, right)
    # REST has 400 for both codes.
    code = "INVALID_ARGUMENT" if protocol == "rest" else "FAILED_PRECONDITION"
    yield _refusal(protocol, "unknown signature", call, code)


def _bodies(target):
    right = {name: json_value(array) for name, array in target.examples["sample"].items()}
    bodies = {
        "a body that is not JSON": b"{",
        "a body that is not an object": [right],
        "a body without inputs": {"signature_name": "sample"},
        "a text for a seed": {"signature_name": "sample", "inputs": {**right, "seed": ["one"] * len(right["seed"])}},
        "rows of different length": {"signature_name": "sample", "inputs": {**right, "seed": [1, [2]]}},
    }
    if "encode" in target.examples:
        bodies["broken base64"] = {"signature_name": "encode", "inputs": {"image_bytes": [{"b64": "*"}]}}
    for what, body in bodies.items():
        call = functools.partial(target.transports["rest"].post, target.model, body, target.timeout)
        yield _refusal("rest", what, call, "INVALID_ARGUMENT")


def _refusal(protocol, what, call, *codes, named=""):
    return Check(f"{protocol}: refuses {what}", functools.partial(_expect_refusal, call, codes, named))


def _expect_refusal(call, codes, named):
    """Calls what must raise `ServerError` with one of the codes and a name in its message; returns what it saw."""
    expected = " or ".join(codes) + (f" that names {named}" if named else "")
    try:
        call()
    except ServerError as error:
        seen = f"{error.code}: {' '.join(error.message.split())[:_MESSAGE_LENGTH]}"
        if error.code not in codes or named not in error.message:
            raise CheckFailedError(f"expected {expected}. Received: {seen}") from error
        return seen
    raise CheckFailedError(f"expected {expected}. Received: an answer")


def _lives(target, protocol):
    answer = target.predict(protocol, "sample", target.examples["sample"])
    if target.card:
        expect_same(target.card.answers["sample"][1], answer, target.max_levels)
    return "the golden answer of sample" if target.card else "an answer of sample"
