"""Each check of concurrent requests fails on a server with the fault that it looks for."""

import itertools
import threading

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.serving.check.conformance import run_check
from nvae_tf.serving.check.load import concurrency_checks, load_checks
from tests.serving.toy_model import Rattled, failures


def test_images_that_depend_on_their_place_in_the_batch(connect, model, monkeypatch):
    def change(name, outputs):
        places = np.arange(len(outputs["image"]), dtype=np.uint8)[:, None, None, None]
        return outputs | {"image": outputs["image"] + 4 * places}

    monkeypatch.setattr(model, "change", change)
    assert set(failures(concurrency_checks(connect()))) == {
        "grpc: one seed, one image, in any batch",
        "rest: one seed, one image, in any batch",
    }


def test_one_image_for_all_seeds(connect, model, monkeypatch):
    monkeypatch.setattr(model, "change", lambda name, outputs: outputs | {"image": np.zeros_like(outputs["image"])})
    failed = failures(concurrency_checks(connect()))
    assert "expected a different image for every seed" in failed["grpc: one seed, one image, in any batch"]


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


def test_refusals_that_spoil_the_answers_beside_them(connect, model, monkeypatch):
    rattled = Rattled()
    monkeypatch.setattr(model, "hook", rattled.hook)
    monkeypatch.setattr(model, "change", rattled.change)
    failed = failures(itertools.islice(concurrency_checks(connect()), 2))
    assert set(failed) == {"grpc: good requests beside bad ones"}


def test_requests_that_fail_under_load(connect, model, monkeypatch):
    calls = itertools.count()

    def hook(name, inputs):
        if next(calls) % 3 == 2:
            raise tf.errors.UnavailableError(None, None, "full")

    monkeypatch.setattr(model, "hook", hook)
    figures = []
    (check, *_) = load_checks(connect(), [2], 0.1, 1, figures)
    outcome = run_check(check)
    assert not outcome.passed and f"{figures[0]['failed']} requests failed" in outcome.reason and figures[0]["failed"]
    monkeypatch.setattr(model, "hook", lambda name, inputs: hook(name, inputs) or 1 / 0)
    assert not run_check(check).passed


def test_load_figures(connect):
    results = []
    (check, _) = load_checks(connect(), [2], 0.2, 3, results)
    assert run_check(check).passed
    (figures,) = results
    requests, seconds = figures["requests"], figures["seconds"]
    assert requests > 2 and figures["failed"] == 0 and 0.2 <= seconds < 2
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] < 1000 * seconds
    np.testing.assert_allclose(figures["images_per_second"], 3 * requests / seconds)
    # Two clients with one request at a time each wait for at most twice the elapsed time.
    assert figures["p50_ms"] / 1000 * requests < 4 * seconds
