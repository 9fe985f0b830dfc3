"""Checks that a server refuses wrong requests with the right code, and still answers afterwards."""

import functools
import struct
import zlib
from typing import NamedTuple

import numpy as np

from nvae_tf.serving.check.conformance import Check, CheckFailedError, expect_same
from nvae_tf.serving.protocol import ModelSpec, ServerError

_UNKNOWN = "no_such_thing"
_UNKNOWN_VERSION = 2**40
_MESSAGE_LENGTH = 100
_OUTSIDE = (np.nan, -0.5, 1.5)  # of [0, 1]
_WRONG_NUMBERS = {"temperature": (np.nan, np.inf, -1.0, 0.0), "alpha": _OUTSIDE, "image": _OUTSIDE}
# JSON has no dtypes, and a server may ignore unknown names.
_FINE_IN_JSON = ("temperature of float64", "an input too many")


class WrongInput(NamedTuple):
    """A request that must be refused as INVALID_ARGUMENT, with a message that contains the input name `named`.

    `named` is empty if a server may refuse the request, in its own words, before the graph runs.
    """

    signature: str
    what: str
    inputs: dict
    named: str


def wrong_inputs(examples):
    """Yields a `WrongInput` for each fault, made from the correct inputs `{signature name: inputs}` of a model."""
    for faults, is_named in ((_faults_for_servers(examples), False), (_faults_for_graphs(examples), True)):
        for signature, what, name, value in faults:
            inputs = {key: array for key, array in examples[signature].items() if key != name}
            inputs |= {} if value is None else {name: value}
            yield WrongInput(signature, what, inputs, name if is_named else "")


def _faults_for_servers(examples):
    """Yields (signature, what is wrong, name of an input, its value, or None without it)."""
    seed, temperature = examples["sample"]["seed"], examples["sample"]["temperature"]
    yield "sample", "seed without a batch", "seed", seed[0]
    yield "sample", "seed of floats", "seed", (seed + 0.5).astype(np.float32)
    yield "sample", "more seeds than temperatures", "seed", np.append(seed, seed)
    yield "sample", "temperature of float64", "temperature", temperature.astype(np.float64)
    yield "sample", "an input too many", "no_such_input", seed
    yield "sample", "an input too few", "temperature", None
    if "score" in examples:
        yield "score", "image of floats", "image", np.full(examples["score"]["image"].shape, 0.5, np.float32)


def _faults_for_graphs(examples):
    """The same for wrong values in one row of any input, and for shapes that all rows of a batch may have."""
    for signature, inputs in sorted(examples.items()):
        noise = sorted(name for name in inputs if name.startswith("noise_"))
        for name, array in inputs.items():
            if name in noise[1:-1]:  # a model may have forty, and each request may be megabytes of JSON
                continue
            for what, value in _wrong_values(name, array).items():
                changed = array.copy()
                changed[0] = value
                yield signature, f"{what} in {name}", name, changed
    for name, array in examples["sample"].items():
        yield "sample", f"{name} of rank 2", name, array[:, np.newaxis]
    if "score" in examples:
        image = examples["score"]["image"]
        yield "score", "image of another height", "image", image[:, 1:]
        yield "score", "image without channels", "image", image[..., 0]
    if "decode" in examples:
        name = min(name for name in examples["decode"] if name.startswith("noise_"))
        # An addition would silently broadcast it over the height.
        yield "decode", f"{name} of height 1", name, examples["decode"][name][:, :1]


def _wrong_values(name, array):
    if array.dtype == object:
        png = array[0]
        header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[24:29]
        huge = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
        return {
            "half a PNG": png[: len(png) // 2],
            "a PNG that claims 100,000 x 100,000 pixels": huge,
            "a text": b"not an image",
            "an empty file": b"",
        }
    numbers = _WRONG_NUMBERS.get(name, (np.nan,)) if array.dtype.kind == "f" else ()
    return {str(number): number for number in numbers}


def refusal_checks(target):
    """Yields a `Check` for everything that a server must refuse, and one that it still answers afterwards."""
    examples = {name: inputs for name, inputs in target.examples.items() if name != "serving_default"}  # it is sample
    for protocol in target.transports:
        for what, call, *codes in _addressing(target, protocol):
            yield _refusal(protocol, what, call, *codes)
        for wrong in wrong_inputs(examples):
            if protocol == "rest" and wrong.what in _FINE_IN_JSON:
                continue
            call = functools.partial(target.predict, protocol, wrong.signature, wrong.inputs)
            yield _refusal(protocol, f"{wrong.signature}, {wrong.what}", call, "INVALID_ARGUMENT", named=wrong.named)
    if "rest" in target.transports:
        bodies = {"a body that is not JSON": b"{", "a body that is not an object": []}
        if "encode" in examples:
            bodies["invalid base64"] = {"signature_name": "encode", "inputs": {"image_bytes": [{"b64": "*"}]}}
        for what, body in bodies.items():
            call = functools.partial(target.transports["rest"].post, target.model, body, target.timeout)
            yield _refusal("rest", what, call, "INVALID_ARGUMENT")
    for protocol in target.transports:
        yield Check(f"{protocol}: answers after all refusals as before", functools.partial(_lives, target, protocol))


def _addressing(target, protocol):
    """Yields (what is wrong, a request, codes)."""
    transport, name = target.transports[protocol], target.model.name
    sample = functools.partial(target.sample, protocol)
    for what, model in (("model", ModelSpec(_UNKNOWN)), ("version", ModelSpec(name, _UNKNOWN_VERSION))):
        yield f"unknown {what}", functools.partial(sample, model=model), "NOT_FOUND"
        for question in (transport.status, transport.metadata):
            call = functools.partial(question, model, target.timeout)
            yield f"{question.__name__} of an unknown {what}", call, "NOT_FOUND"
    # The contract names no code for labels.
    call = functools.partial(sample, model=ModelSpec(name, None, _UNKNOWN))
    yield "unknown label", call, "NOT_FOUND", "INVALID_ARGUMENT"
    # REST has 400 for both codes.
    code = "INVALID_ARGUMENT" if protocol == "rest" else "FAILED_PRECONDITION"
    yield "unknown signature", functools.partial(sample, _UNKNOWN), code


def _refusal(protocol, what, call, *codes, named=""):
    """`Check` that a request raises `ServerError` with one of the codes and a name in its message."""
    expected = " or ".join(codes) + (f" that names {named}" if named else "")

    def run():
        try:
            call()
        except ServerError as error:
            seen = f"{error.code}: {' '.join(error.message.split())[:_MESSAGE_LENGTH]}"
            if error.code not in codes or named not in error.message:
                raise CheckFailedError(f"expected {expected}. Received: {seen}") from error
            return seen
        raise CheckFailedError(f"expected {expected}. Received: an answer")

    return Check(f"{protocol}: refuses {what}", run)


def _lives(target, protocol):
    answer = target.sample(protocol)
    if target.card:
        expect_same(target.card.answers["sample"][1], answer, target.max_levels)
    return "the golden answer of sample" if target.card else "an answer of sample"
