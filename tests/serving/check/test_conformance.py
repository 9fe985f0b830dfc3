"""Every check passes on a correct server and fails on one with the fault that it looks for."""

import contextlib
import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from nvae_tf.serving.check.conformance import CheckFailedError, basic_checks, expect_same
from nvae_tf.serving.check.load import concurrency_checks, load_checks
from nvae_tf.serving.check.refusals import refusal_checks
from tests.serving.toy_model import SIGNATURES, failures


@pytest.mark.parametrize("with_card", [True, False], ids=["card", "no card"])
def test_a_correct_server_passes(connect, card, with_card):
    target, figures = connect(card if with_card else None), []
    parts = basic_checks(target), concurrency_checks(target), refusal_checks(target)
    checks = [*itertools.chain(*parts), *load_checks(target, [1, 3], 0.05, 2, figures)]
    assert not failures(checks)
    assert sum("golden answer" in check.name for check in checks) == (2 * (len(SIGNATURES) - 1) if with_card else 0)
    expected = [(protocol, number) for protocol in ("grpc", "rest") for number in (1, 3)]
    assert [(row["protocol"], row["concurrency"]) for row in figures] == expected


def _added(name, value):
    """`change` of a model that adds to an output."""
    return lambda signature, outputs: outputs | ({name: outputs[name] + value} if name in outputs else {})


_UNLIKE = dict(SIGNATURES, score=({**SIGNATURES["score"][0], "seed": ("int32", [None])}, SIGNATURES["score"][1]))
_NAMELESS = {name: sides for name, sides in SIGNATURES.items() if name != "serving_default"}


@pytest.mark.parametrize(
    ("attribute", "value", "failing"),
    [
        ("state", ModelVersionStatus.LOADING, {"status"}),
        ("signatures", _UNLIKE, {"metadata"}),
        ("signatures", _NAMELESS, {"metadata", "the default signature is sample"}),
        ("change", _added("nelbo", 0.5), {"golden answer of score"}),
        ("change", _added("mean_image", 0.01), {"golden answer of decode"}),
    ],
    ids=["loading", "unlike the card", "no default", "score", "decode"],
)
def test_what_differs_from_the_card(connect, card, model, monkeypatch, attribute, value, failing):
    monkeypatch.setattr(model, attribute, value)
    failed = failures(basic_checks(connect(card)))
    assert {name.partition(": ")[2] for name in failed if name.startswith("grpc")} == failing
    assert {name.partition(": ")[2] for name in failed if name.startswith("rest")} >= failing


def test_versions_that_are_not_found_by_number(connect, model, monkeypatch):
    def find(name, number, label):
        if number:
            raise tf.errors.NotFoundError(None, None, "no number is")

    monkeypatch.setattr(model, "_find", find)
    assert set(failures(basic_checks(connect()))) == {"grpc: by version", "rest: by version"}


def test_the_default_signature_gives_other_images(connect, card, model, monkeypatch):
    def change(name, outputs):
        return outputs | {"image": 255 - outputs["image"]} if name == "serving_default" else outputs

    monkeypatch.setattr(model, "change", change)
    assert set(failures(basic_checks(connect(card)))) == {
        "grpc: the default signature is sample",
        "rest: the default signature is sample",
    }


@pytest.mark.parametrize(
    ("levels", "count", "max_levels", "passes"),
    [(1, 1, 1, True), (2, 1, 1, False), (1, 2, 1, False), (100, 1, 255, True), (100, 2, 255, False)],
)
def test_how_close_pixels_must_be(levels, count, max_levels, passes):
    right = np.full((1000, 1), 100, np.uint8)
    given = right.copy()
    given[:count] -= levels
    with contextlib.nullcontext() if passes else pytest.raises(CheckFailedError, match=f"by up to {levels} levels"):
        expect_same({"image": right}, {"image": given}, max_levels)


@pytest.mark.parametrize(
    ("place", "change", "passes"),
    [(0, 1.0, True), (0, 1.2, False), (1, 0.1, True), (1, 0.12, False), (2, 0.099, True), (2, 0.12, False)],
)
def test_how_close_floats_must_be(place, change, passes):
    right = np.array([1000.0, 1.0, 0.0], np.float32)
    given = right.copy()
    given[place] += change
    with contextlib.nullcontext() if passes else pytest.raises(CheckFailedError, match="x: 33.33% of the values"):
        expect_same({"x": right}, {"x": given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"outputs: expected \['x'\]. Received: \[\]"),
        ({"x": np.zeros((1, 2))}, r"x: expected float32 \[1, 2\]. Received: float64 \[1, 2\]"),
        ({"x": np.zeros((2, 2), np.float32)}, r"Received: float32 \[2, 2\]"),
        ({"x": np.full((1, 2), np.nan, np.float32)}, "x: 100.00% of the values differ"),
    ],
    ids=["missing", "dtype", "shape", "nan"],
)
def test_answers_of_another_kind(given, message):
    with pytest.raises(CheckFailedError, match=message):
        expect_same({"x": np.zeros((1, 2), np.float32)}, given)
