"""Checks that the status, metadata and answers of a server meet the TensorFlow Serving contract.

They apply to any server of that protocol, whatever it runs inside.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nvae_tf.golden_answers import difference
from nvae_tf.serving.card import Card
from nvae_tf.serving.protocol import ModelSpec, ServerError
from nvae_tf.serving.rest_transport import json_value

_ROWS = 2


class CheckFailedError(Exception):
    """A server did something wrong, which the message describes."""


class Check(NamedTuple):
    """A name, and a function that returns what it saw or raises `CheckFailedError`."""

    name: str
    run: Callable[[], str]


class Outcome(NamedTuple):
    """Whether a check passed, and what it saw."""

    name: str
    passed: bool
    reason: str


@dataclasses.dataclass
class Target:
    """The server to check."""

    transports: dict  # {"grpc": GrpcTransport, "rest": RestTransport}, or one of them
    model: ModelSpec
    timeout: float  # time limit of a request in seconds
    card: Card | None = None  # of the served model; None if it is not available

    def predict(self, protocol, signature, inputs, model=None):
        """Sends a request without checks; returns `{name: array}`."""
        return self.transports[protocol].predict(model or self.model, signature, inputs, self.timeout)

    def sample(self, protocol, signature="sample", model=None):
        """Outputs of the example inputs of `sample`."""
        return self.predict(protocol, signature, self.examples["sample"], model)

    def version(self):
        """Number of the version that answers; None without an answer."""
        for transport in self.transports.values():
            with contextlib.suppress(ServerError):
                return transport.metadata(self.model, self.timeout).version
        return None

    @property
    def max_levels(self):
        """Number of levels, of 255, by which a pixel may differ."""
        return self.card.max_levels if self.card else 255

    @property
    def examples(self):
        """`{signature name: inputs}` that a server must accept: the card's or, without one, of `sample` only."""
        if self.card:
            return {name: inputs for name, (inputs, _) in self.card.answers.items()}
        return {"sample": {"seed": np.arange(1, _ROWS + 1), "temperature": np.full(_ROWS, 0.7, np.float32)}}


def run_check(check):
    """Runs a check; the reason of its `Outcome` is what it returned or raised."""
    try:
        return Outcome(check.name, True, check.run())
    except Exception as error:  # An unforeseen answer must not end the other checks.
        kind = "" if isinstance(error, CheckFailedError | ServerError) else f"{type(error).__name__}: "
        return Outcome(check.name, False, f"{kind}{error}")


def expect_same(expected, received, max_levels=1):
    """Raises `CheckFailedError` if outputs, `{name: array}`, have a `difference`."""
    if problem := difference(expected, received, max_levels):
        raise CheckFailedError(problem)


def basic_checks(target):
    """Yields the `Check`s of status, metadata and answers of a `Target`."""
    for protocol, transport in target.transports.items():
        yield Check(f"{protocol}: status", functools.partial(_status, target, transport))
        yield Check(f"{protocol}: metadata", functools.partial(_metadata, target, transport))
    for protocol in target.transports:
        yield Check(f"{protocol}: the default signature is sample", functools.partial(_default, target, protocol))
        yield Check(f"{protocol}: by version", functools.partial(_by_version, target, protocol))
        for signature in target.card.answers if target.card else ():
            run = functools.partial(_golden_answer, target, protocol, signature)
            yield Check(f"{protocol}: golden answer of {signature}", run)
    if "rest" in target.transports:
        yield Check("rest: rows (instances) as columns (inputs)", functools.partial(_by_row, target))


def _status(target, transport):
    versions = transport.status(target.model, target.timeout)
    if not any(version.state == "AVAILABLE" for version in versions):
        raise CheckFailedError(f"expected a version that is AVAILABLE. Received: {versions}")
    return ", ".join(f"version {version.version} {version.state}" for version in versions)


def _metadata(target, transport):
    version, signatures = transport.metadata(target.model, target.timeout)
    if "sample" not in signatures or signatures["sample"] != signatures.get("serving_default"):
        raise CheckFailedError(f"expected sample, and serving_default like it. Received: {sorted(signatures)}")
    if not target.card:
        return f"version {version}: {', '.join(sorted(signatures))}"
    listed = {"serving_default": target.card.signatures.get("sample"), **target.card.signatures}
    for name in sorted({*signatures, *listed}):
        wanted, seen = listed.get(name), signatures.get(name)
        if seen != wanted:
            raise CheckFailedError(f"{name}: expected as on the card, {wanted}. Received: {seen}")
    return f"version {version}: {len(listed)} signatures as on the card"


def _golden_answer(target, protocol, signature):
    inputs, outputs = target.card.answers[signature]
    expect_same(outputs, target.predict(protocol, signature, inputs), target.max_levels)
    return f"{len(outputs)} outputs as expected"


def _default(target, protocol):
    expect_same(target.sample(protocol), target.sample(protocol, ""), target.max_levels)
    return "the same answer without the name of a signature"


def _by_version(target, protocol):
    version = target.transports[protocol].metadata(target.model, target.timeout).version
    received = target.sample(protocol, model=ModelSpec(target.model.name, version))
    expect_same(target.sample(protocol), received, target.max_levels)
    return f"the same answer from version {version} by its number"


def _by_row(target):
    columns = {name: json_value(array) for name, array in target.examples["sample"].items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    body = {"signature_name": "sample", "instances": rows}
    predictions = target.transports["rest"].post(target.model, body, target.timeout)["predictions"]
    # With a single output, a row is its value.
    images = np.array([row["image"] if isinstance(row, dict) else row for row in predictions], np.uint8)
    expect_same({"image": target.sample("rest")["image"]}, {"image": images}, target.max_levels)
    return f"{len(rows)} rows"
