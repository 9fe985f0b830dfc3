"""Each check of a refusal fails on a server with the fault that it looks for."""

import tensorflow as tf

from nvae_tf.serving.check.refusals import refusal_checks, wrong_inputs
from nvae_tf.serving.inputs import check_inputs
from nvae_tf.serving.protocol import InputError
from tests.serving import stand_in_json, toy_model
from tests.serving.toy_model import EXAMPLES, Rattled, failures


def test_refusals_that_spoil_the_answers_after_them(connect, card, model, monkeypatch):
    rattled = Rattled()
    monkeypatch.setattr(model, "hook", rattled.hook)
    monkeypatch.setattr(model, "change", rattled.change)
    failed = failures(refusal_checks(connect(card)))
    assert set(failed) == {f"{protocol}: answers after all refusals as before" for protocol in ("grpc", "rest")}


def test_wrong_input_that_is_answered(connect, card, model, monkeypatch):
    monkeypatch.setattr(model, "checks", False)
    failed = failures(refusal_checks(connect(card)))
    for what in ("-1.0", "0.0", "nan"):
        reason = failed[f"grpc: refuses sample, {what} in temperature"]
        assert reason == "expected INVALID_ARGUMENT that names temperature. Received: an answer"
        assert f"rest: refuses sample, {what} in temperature" in failed
    assert "grpc: refuses encode_floats, 1.5 in image" in failed and "grpc: refuses decode, nan in noise_00" in failed
    # An error of the model's own arithmetic is no INVALID_ARGUMENT either.
    assert "grpc: refuses sample, an input too many" in failed


def test_refusals_that_do_not_say_which_input_is_wrong(connect, card, monkeypatch):
    def refuse(message, error=tf.errors.InvalidArgumentError):
        raise error(None, None, "no")

    monkeypatch.setattr(toy_model, "refuse", refuse)
    failed = {name.removeprefix("grpc: refuses ") for name in failures(refusal_checks(connect(card)))}
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
    target = connect()
    failed = failures(refusal_checks(target))
    assert failed["grpc: refuses sample, nan in temperature"].startswith(
        "expected INVALID_ARGUMENT that names temperature. Received: UNKNOWN: odd"
    )
    assert "grpc: refuses unknown model" not in failed
    monkeypatch.setattr(model, "_find", find)
    failed = failures(refusal_checks(target))
    assert failed["grpc: refuses unknown model"] == "expected NOT_FOUND. Received: INTERNAL: lost"
    assert failed["rest: refuses status of an unknown version"] == "expected NOT_FOUND. Received: INTERNAL: lost"


def test_malformed_bodies_with_another_code(connect, card, monkeypatch):
    monkeypatch.setattr(stand_in_json, "_invalid", lambda message: tf.errors.InternalError(None, None, message))
    failed = failures(refusal_checks(connect(card)))
    for what in ("a body that is not JSON", "a body that is not an object", "invalid base64"):
        assert failed[f"rest: refuses {what}"].startswith("expected INVALID_ARGUMENT. Received: INTERNAL: JSON")


def test_the_client_refuses_what_servers_must_refuse(card):
    sent = []
    for wrong in wrong_inputs(EXAMPLES):
        try:
            check_inputs(wrong.inputs, card.signatures[wrong.signature].inputs)
            sent.append(wrong.what)
        except InputError:
            pass
    assert sent == ["temperature of float64"]  # which it converts
