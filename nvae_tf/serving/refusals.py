"""Checks that a server refuses what is wrong, with the right code, and lives on."""

import functools
import struct
import zlib
from typing import NamedTuple

import numpy as np

from nvae_tf.serving.conformance import Check, CheckFailedError, compare, levels
from nvae_tf.serving.protocol import ModelSpec, ServerError
from nvae_tf.serving.rest_transport import json_value

_UNKNOWN = "no_such_thing"
_UNKNOWN_VERSION = 2**40
_MESSAGE_LENGTH = 100


class WrongInput(NamedTuple):
    """A request that must be INVALID_ARGUMENT: what is wrong with it, the signature, its inputs."""

    what: str
    signature: str
    inputs: dict
    # JSON knows no dtypes, and REST may pass over names that it does not look for.
    in_json: bool = True


def wrong_inputs(examples):
    """List of `WrongInput`, one wrong thing each, for the signatures that a model has.

    Args:
        examples: `{signature name: inputs}` that are right.
    """
    return [*_wrong_rows(examples), *_wrong_files(examples), *_wrong_images(examples)]


def _wrong_rows(examples):
    """Seeds, temperatures and names, for `sample`."""
    right = examples["sample"]
    seed, temperature = right["seed"], right["temperature"]
    wrong = functools.partial(_changed, examples, "sample")
    yield wrong("seed without a batch", seed=seed[0])
    yield wrong("seed of rank 2", seed=seed[:, np.newaxis])
    yield wrong("seed of floats", seed=(seed + 0.5).astype(np.float32))
    yield wrong("more seeds than temperatures", seed=np.append(seed, seed))
    yield wrong("temperature of rank 2", temperature=temperature[:, np.newaxis])
    yield wrong("temperature of float64", temperature=temperature.astype(np.float64))._replace(in_json=False)
    for value in (np.nan, np.inf, -1.0, 0.0):
        yield wrong(f"temperature {value}", temperature=_with_first(temperature, value))
    yield wrong("an input too many", no_such_input=seed)._replace(in_json=False)
    yield WrongInput("an input too few", "sample", {"seed": seed})


def _wrong_files(examples):
    """What is no PNG or JPEG."""
    for signature in sorted({"encode", "reconstruct"} & set(examples)):
        files = examples[signature]["image_bytes"]
        for what, content in (
            ("half a PNG", files[0][: len(files[0]) // 2]),
            ("a PNG that claims 100,000 x 100,000 pixels", _huge_png()),
            ("a text for an image", b"not an image"),
            ("an empty image", b""),
        ):
            yield _changed(examples, signature, what, image_bytes=_with_first(files, content))


def _wrong_images(examples):
    """Images, noise and fractions out of shape or range."""
    if "score" in examples:
        image = examples["score"]["image"]
        wrong = functools.partial(_changed, examples, "score")
        yield wrong("image of another height", image=image[:, 1:])
        yield wrong("image without channels", image=image[..., 0])
        yield wrong("image of floats", image=np.full(image.shape, 0.5, np.float32))
    for signature, name in (("encode_floats", "image"), ("interpolate", "alpha"), ("interpolate_seeds", "alpha")):
        for value in (np.nan, -0.5, 1.5) if signature in examples else ():
            changed = _with_first(examples[signature][name], value)
            yield _changed(examples, signature, f"{value} in {name}", **{name: changed})
    if "decode" in examples:
        name = min(name for name in examples["decode"] if name.startswith("noise_"))
        noise = examples["decode"][name]
        yield _changed(examples, "decode", f"NaN in {name}", **{name: _with_first(noise, np.nan)})
        # Which an addition would spread over the height without a word.
        yield _changed(examples, "decode", f"{name} of height 1", **{name: noise[:, :1]})


def _changed(examples, signature, what, **changes):
    return WrongInput(what, signature, {**examples[signature], **changes})


def _with_first(array, value):
    """A copy with another first row."""
    copy = array.copy()
    copy[0] = value
    return copy


def _huge_png():
    """A PNG of a hundred bytes whose header claims an image of 10 GB."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100_001))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def refusal_checks(target):
    """Yields a `Check` for everything that a server must refuse, and for that it answers afterwards."""
    for protocol in target.transports:
        yield from _addressing(target, protocol)
        for wrong in wrong_inputs(target.examples):
            if wrong.in_json or protocol != "rest":
                call = functools.partial(target.predict, protocol, wrong.signature, wrong.inputs)
                yield _refusal(protocol, f"{wrong.signature}, {wrong.what}", call, "INVALID_ARGUMENT")
    if "rest" in target.transports:
        yield from _bodies(target)
    for protocol in target.transports:
        yield Check(f"{protocol}: answers as before after all refusals", functools.partial(_lives, target, protocol))


def _addressing(target, protocol):
    transport, right = target.transports[protocol], target.examples["sample"]
    other = {
        "unknown model": ModelSpec(_UNKNOWN),
        "unknown version": ModelSpec(target.model.name, _UNKNOWN_VERSION),
    }
    for what, model in other.items():
        call = functools.partial(target.predict, protocol, "sample", right, model)
        yield _refusal(protocol, what, call, "NOT_FOUND")
        for question in (transport.status, transport.metadata):
            call = functools.partial(question, model, target.timeout)
            yield _refusal(protocol, f"{question.__name__} of an {what}", call, "NOT_FOUND")
    call = functools.partial(target.predict, protocol, _UNKNOWN, right)
    # REST has 400 for both.
    code = "INVALID_ARGUMENT" if protocol == "rest" else "FAILED_PRECONDITION"
    yield _refusal(protocol, "unknown signature", call, code)


def _bodies(target):
    right = {name: json_value(array) for name, array in target.examples["sample"].items()}
    bodies = {
        "a body that is not JSON": b"{",
        "a body that is no object": [right],
        "a body without inputs": {"signature_name": "sample"},
        "a text for a seed": {"signature_name": "sample", "inputs": {**right, "seed": ["one"] * len(right["seed"])}},
        "rows of different length": {"signature_name": "sample", "inputs": {**right, "seed": [1, [2]]}},
    }
    if "encode" in target.examples:
        bodies["base64 that is none"] = {"signature_name": "encode", "inputs": {"image_bytes": [{"b64": "*"}]}}
    for what, body in bodies.items():
        call = functools.partial(target.transports["rest"].post, target.model, body, target.timeout)
        yield _refusal("rest", what, call, "INVALID_ARGUMENT")


def _refusal(protocol, what, call, code):
    return Check(f"{protocol}: refuses {what}", functools.partial(expect_refusal, call, code))


def expect_refusal(call, code):
    """The code and the start of the message of a refusal; `CheckFailedError` without one, or with another code."""
    try:
        call()
    except ServerError as error:
        seen = f"{error.code}: {' '.join(error.message.split())[:_MESSAGE_LENGTH]}"
        if error.code != code:
            raise CheckFailedError(f"expected {code}. Received: {seen}") from error
        return seen
    raise CheckFailedError(f"expected {code}. Received: an answer")


def _lives(target, protocol):
    inputs = target.examples["sample"]
    if target.golden:
        compare(target.golden.answers["sample"][1], target.predict(protocol, "sample", inputs), levels(target))
        return "the golden answer of sample"
    target.predict(protocol, "sample", inputs)
    return "an answer of sample"
