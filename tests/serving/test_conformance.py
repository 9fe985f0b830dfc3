"""Each check passes on a server that is right, and fails on one that is wrong in that alone."""

import contextlib
import itertools
import json
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from nvae_tf.serving.conformance import CheckFailedError, Target, basic_checks, compare, run_check
from nvae_tf.serving.golden import read_golden
from nvae_tf.serving.grpc_transport import GrpcTransport
from nvae_tf.serving.inputs import check_inputs
from nvae_tf.serving.load import concurrency_checks, load_checks, measure_load
from nvae_tf.serving.protocol import InputError, ModelSpec
from nvae_tf.serving.refusals import refusal_checks, wrong_inputs
from nvae_tf.serving.rest_transport import RestTransport
from tests.serving import toy_model
from tests.serving.toy_model import SIGNATURES, ToyModel, serving, write_card


@pytest.fixture(scope="module")
def served():
    model = ToyModel()
    with serving(model) as ports:
        yield model, ports


@pytest.fixture
def model(served):
    return served[0]


@pytest.fixture
def connect(served):
    """Function that gives the `Target`, with a `Golden` or without."""
    grpc_port, rest_port = served[1]
    transports = {"grpc": GrpcTransport("127.0.0.1", grpc_port), "rest": RestTransport("127.0.0.1", rest_port)}
    yield lambda golden=None: Target(transports, ModelSpec("toy"), 10, golden)
    for transport in transports.values():
        transport.close()


@pytest.fixture(scope="module")
def golden(served, tmp_path_factory):
    model, (grpc_port, _) = served
    target = Target({"grpc": GrpcTransport("127.0.0.1", grpc_port)}, ModelSpec("toy"), 10)
    examples = {name: inputs for name, inputs in target.examples.items() if name != "serving_default"}
    return read_golden(write_card(tmp_path_factory.mktemp("card"), model, examples))


def _failures(checks):
    """{name: reason} of the checks that fail."""
    outcomes = [run_check(check) for check in checks]
    assert outcomes and len({outcome.name for outcome in outcomes}) == len(outcomes)
    return {outcome.name: outcome.reason for outcome in outcomes if not outcome.passed}


@pytest.mark.parametrize("with_card", [True, False], ids=["card", "no card"])
def test_a_server_that_is_right_passes(connect, golden, with_card):
    target, figures = connect(golden if with_card else None), []
    parts = basic_checks(target), concurrency_checks(target), refusal_checks(target)
    checks = [*itertools.chain(*parts), *load_checks(target, [1, 3], 0.05, 2, figures)]
    assert not _failures(checks)
    assert sum("golden answer" in check.name for check in checks) == (2 * (len(SIGNATURES) - 1) if with_card else 0)
    assert [(row.protocol, row.concurrency) for row in figures] == [("grpc", 1), ("grpc", 3), ("rest", 1), ("rest", 3)]


def _added(name, value):
    """`change` of a model that adds to an output."""
    return lambda signature, outputs: outputs | ({name: outputs[name] + value} if name in outputs else {})


_UNLIKE = dict(SIGNATURES, score=({**SIGNATURES["score"][0], "seed": ("int32", [None])}, SIGNATURES["score"][1]))
_FLAT = dict(SIGNATURES, score=(SIGNATURES["score"][0], {**SIGNATURES["score"][1], "mean": ("float32", [])}))
_NAMELESS = {name: sides for name, sides in SIGNATURES.items() if name != "serving_default"}


@pytest.mark.parametrize(
    ("attribute", "value", "failing"),
    [
        ("state", ModelVersionStatus.LOADING, {"status"}),
        ("signatures", _UNLIKE, {"metadata"}),
        ("signatures", _FLAT, {"metadata"}),
        ("signatures", _NAMELESS, {"metadata", "the default signature is sample"}),
        ("change", _added("nelbo", 0.5), {"golden answer of score"}),
        ("change", _added("mean_image", 0.01), {"golden answer of decode"}),
    ],
    ids=["loading", "unlike the card", "an output without the batch", "no default", "score", "decode"],
)
def test_what_differs_from_the_card(connect, golden, model, monkeypatch, attribute, value, failing):
    monkeypatch.setattr(model, attribute, value)
    failed = _failures(basic_checks(connect(golden)))
    assert {name.partition(": ")[2] for name in failed if name.startswith("grpc")} == failing
    assert {name.partition(": ")[2] for name in failed if name.startswith("rest")} >= failing


def test_an_output_without_the_batch_shows_without_a_card(connect, model, monkeypatch):
    monkeypatch.setattr(model, "signatures", _FLAT)
    failed = _failures(basic_checks(connect()))
    assert failed["grpc: metadata"] == "score, mean: expected the batch, of any size, first. Received: ()"
    assert "rest: metadata" in failed


def test_versions_that_are_not_found_by_number(connect, model, monkeypatch):
    def find(name, number, label):
        if number:
            raise tf.errors.NotFoundError(None, None, "no number is")

    monkeypatch.setattr(model, "_find", find)
    assert set(_failures(basic_checks(connect()))) == {"grpc: by version", "rest: by version"}


def test_the_default_signature_gives_other_images(connect, golden, model, monkeypatch):
    def change(name, outputs):
        return outputs | {"image": 255 - outputs["image"]} if name == "serving_default" else outputs

    monkeypatch.setattr(model, "change", change)
    assert set(_failures(basic_checks(connect(golden)))) == {
        "grpc: the default signature is sample",
        "rest: the default signature is sample",
    }


def test_a_place_in_the_batch_that_shows_in_the_image(connect, model, monkeypatch):
    def change(name, outputs):
        places = np.arange(len(outputs["image"]), dtype=np.uint8)[:, None, None, None]
        return outputs | {"image": outputs["image"] + 4 * places}

    monkeypatch.setattr(model, "change", change)
    assert set(_failures(concurrency_checks(connect()))) == {
        "grpc: one seed, one image, in any batch",
        "rest: one seed, one image, in any batch",
    }


def test_one_image_for_all_seeds(connect, model, monkeypatch):
    monkeypatch.setattr(model, "change", lambda name, outputs: outputs | {"image": np.zeros_like(outputs["image"])})
    failed = _failures(concurrency_checks(connect()))
    assert "expected another image for every seed" in failed["grpc: one seed, one image, in any batch"]


@pytest.mark.parametrize(
    ("error", "message", "times", "reason"),
    [
        (tf.errors.InvalidArgumentError, "temperature: too cold", 2, None),
        (tf.errors.InvalidArgumentError, "temperature: too cold", 48, "temperature: too cold"),
        (tf.errors.InvalidArgumentError, "seed: too old", 1, "seed: too old"),
        (tf.errors.FailedPreconditionError, "temperature: too cold", 1, "FAILED_PRECONDITION"),
    ],
    ids=["sent again", "without end", "for another input", "another code"],
)
def test_good_requests_that_are_refused_beside_bad_ones(connect, model, monkeypatch, error, message, times, reason):
    begun, left = threading.Event(), itertools.count(1)

    def hook(name, inputs):
        if (inputs["temperature"] <= 0).any():
            begun.set()
        elif begun.is_set() and next(left) <= times:
            raise error(None, None, message)

    monkeypatch.setattr(model, "hook", hook)
    (check,) = itertools.islice(concurrency_checks(connect()), 1, 2)
    outcome = run_check(check)
    assert outcome.passed == (reason is None), outcome
    assert (reason or "after 2 refusals") in outcome.reason


class _Rattled:
    """A model's hook and change: after a refusal, the next sample is another."""

    def __init__(self, refusals=1):
        self.refusals = refusals

    def hook(self, name, inputs):
        if name == "sample" and (np.asarray(inputs.get("temperature", 1)) <= 0).any():
            self.refusals -= 1

    def change(self, name, outputs):
        return outputs | {"image": outputs["image"] ^ 255} if self.refusals <= 0 else outputs


def test_refusals_that_spoil_the_answers_beside_them(connect, model, monkeypatch):
    rattled = _Rattled()
    monkeypatch.setattr(model, "hook", rattled.hook)
    monkeypatch.setattr(model, "change", rattled.change)
    failed = _failures(itertools.islice(concurrency_checks(connect()), 2))
    assert set(failed) == {"grpc: good requests beside bad ones"}


def test_refusals_that_spoil_the_answers_after_them(connect, golden, model, monkeypatch):
    rattled = _Rattled()
    monkeypatch.setattr(model, "hook", rattled.hook)
    monkeypatch.setattr(model, "change", rattled.change)
    failed = _failures(refusal_checks(connect(golden)))
    assert set(failed) == {f"{protocol}: answers as before after all refusals" for protocol in ("grpc", "rest")}


def test_wrong_input_that_is_answered(connect, model, monkeypatch):
    monkeypatch.setattr(model, "checks", False)
    failed = _failures(refusal_checks(connect()))
    for what in ("-1.0", "0.0", "nan"):
        reason = failed[f"grpc: refuses sample, {what} in temperature"]
        assert reason == "expected INVALID_ARGUMENT that names temperature. Received: an answer"
        assert f"rest: refuses sample, {what} in temperature" in failed
    assert "grpc: refuses encode_floats, 1.5 in image" in failed and "grpc: refuses decode, nan in noise_00" in failed
    # What the model's own arithmetic stumbles over is not INVALID_ARGUMENT either.
    assert "grpc: refuses sample, an input too many" in failed


def test_refusals_that_do_not_say_which_input_is_wrong(connect, monkeypatch):
    def refuse(message, error=tf.errors.InvalidArgumentError):
        raise error(None, None, "no")

    monkeypatch.setattr(toy_model, "refuse", refuse)
    failed = {name.removeprefix("grpc: refuses ") for name in _failures(refusal_checks(connect()))}
    signatures = ("sample", "decode", "reconstruct", "interpolate_seeds")
    expected = {f"{name}, -1.0 in temperature" for name in signatures} | {"interpolate, a text in image_bytes_b"}
    assert failed >= expected | {"decode, nan in noise_00", "sample, seed of rank 2"}
    assert "sample, an input too few" not in failed


def test_wrong_codes(connect, model, monkeypatch):
    def find(*which):
        raise tf.errors.InternalError(None, None, "lost")

    def hook(name, inputs):
        raise tf.errors.UnknownError(None, None, "odd")

    monkeypatch.setattr(model, "hook", hook)
    # The examples are needed for the requests; they come from the card then.
    target = connect()
    target.examples = {"sample": {"seed": np.array([1, 2]), "temperature": np.ones(2, np.float32)}}
    failed = _failures(refusal_checks(target))
    assert failed["grpc: refuses sample, nan in temperature"].startswith(
        "expected INVALID_ARGUMENT that names temperature. Received: UNKNOWN: odd"
    )
    assert "grpc: refuses unknown model" not in failed
    monkeypatch.setattr(model, "_find", find)
    failed = _failures(refusal_checks(target))
    assert failed["grpc: refuses unknown model"] == "expected NOT_FOUND. Received: INTERNAL: lost"
    assert failed["rest: refuses status of an unknown version"] == "expected NOT_FOUND. Received: INTERNAL: lost"


def test_requests_that_fail_under_load(connect, model, monkeypatch):
    calls = itertools.count()

    def hook(name, inputs):
        if next(calls) % 3 == 2:
            raise tf.errors.UnavailableError(None, None, "full")

    monkeypatch.setattr(model, "hook", hook)
    figures = []
    (check, *_) = load_checks(connect(), [2], 0.1, 1, figures)
    outcome = run_check(check)
    assert not outcome.passed and f"{figures[0].failed} requests failed" in outcome.reason and figures[0].failed
    monkeypatch.setattr(model, "hook", lambda name, inputs: hook(name, inputs) or 1 / 0)
    assert not run_check(check).passed


def test_load_figures(connect):
    figures = measure_load(connect(), "grpc", 2, 0.2, rows=3)
    assert figures.requests > 2 and figures.failed == 0 and 0.2 <= figures.seconds < 2
    assert 0 < figures.p50_ms <= figures.p90_ms <= figures.p99_ms < 1000 * figures.seconds
    np.testing.assert_allclose(figures.images_per_second, 3 * figures.requests / figures.seconds)
    # Two clients, one after another each: what they wait for is no more than twice the time.
    assert figures.p50_ms / 1000 * figures.requests < 4 * figures.seconds


@pytest.mark.parametrize(
    ("levels", "count", "max_levels", "passes"),
    [(1, 1, 1, True), (2, 1, 1, False), (1, 2, 1, False), (100, 1, 255, True), (100, 2, 255, False)],
)
def test_how_near_pixels_must_be(levels, count, max_levels, passes):
    right = np.full((1000, 1), 100, np.uint8)
    given = right.copy()
    given[:count] -= levels
    with contextlib.nullcontext() if passes else pytest.raises(CheckFailedError, match=f"by up to {levels} levels"):
        compare({"image": right}, {"image": given}, max_levels)


@pytest.mark.parametrize(
    ("place", "change", "passes"),
    [(0, 1.0, True), (0, 1.2, False), (1, 0.1, True), (1, 0.12, False), (2, 0.099, True), (2, 0.12, False)],
)
def test_how_near_floats_must_be(place, change, passes):
    right = np.array([1000.0, 1.0, 0.0], np.float32)
    given = right.copy()
    given[place] += change
    with contextlib.nullcontext() if passes else pytest.raises(CheckFailedError, match="x: 33.33% of the values"):
        compare({"x": right}, {"x": given})


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
        compare({"x": np.zeros((1, 2), np.float32)}, given)


def test_the_client_refuses_what_servers_must_refuse(connect):
    target, sent = connect(), []
    for wrong in wrong_inputs(target.examples):
        try:
            check_inputs(wrong.inputs, target.signatures[wrong.signature].inputs)
            sent.append(wrong.what)
        except InputError:
            pass
    assert sent == ["temperature of float64"]  # which it converts


def test_cards_that_are_damaged(connect, golden, model, tmp_path):
    examples = {"sample": connect().examples["sample"]}
    path = write_card(tmp_path, model, examples)
    assert set(read_golden(path).answers) == {"sample"} and read_golden(path).max_levels == 1
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"pixels": "sample"}))
    assert read_golden(path).max_levels == 255
    path.write_text(json.dumps(card | {"golden": None}))
    with pytest.raises(ValueError, match="model.json: expected a model card"):
        read_golden(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="model.json: expected a model card"):
        read_golden(path)
    path.write_text(json.dumps(card))
    with (tmp_path / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="golden.npz: expected the sha256 .* of model.json. Received: "):
        read_golden(path)
