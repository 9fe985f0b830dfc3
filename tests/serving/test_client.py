"""The client over both protocols, on the services of the stand-in with the toy model."""

import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.serving import client as client_module
from nvae_tf.serving.client import Client
from nvae_tf.serving.grpc_transport import GrpcTransport
from nvae_tf.serving.protocol import InputError, ModelSpec, ServerError, TensorSpec, VersionStatus
from nvae_tf.serving.rest_transport import RestTransport
from tests.serving.toy_model import ToyModel, png, serving

_KINDS = {"grpc": GrpcTransport, "rest": RestTransport}
_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(0, 256, (3, 6, 6, 1), np.uint8)
_FILES = np.array([png(image) for image in _IMAGES], object)
_FILE, _TWO_FILES = {"image_bytes": _FILES}, {"image_bytes_a": _FILES, "image_bytes_b": _FILES[::-1]}
_NOISE = _RNG.standard_normal((3, 2, 2, 3)).astype(np.float32)
_SEEDS = np.array([1, 2, 2**62])
_HALF = np.full(3, 0.5, np.float32)


@pytest.fixture(params=["grpc", "rest"])
def transport(request, served):
    transport = _KINDS[request.param]("127.0.0.1", served[1][request.param])
    yield transport
    transport.close()


@pytest.fixture
def client(transport):
    return Client(transport, "toy", timeout_seconds=20)


@pytest.mark.parametrize(
    ("method", "arguments", "signature", "inputs"),
    [
        ("sample", (_SEEDS, 1), "sample", {"seed": _SEEDS, "temperature": 2 * _HALF}),
        ("sample", (_SEEDS, 0.5), "sample", {"seed": _SEEDS, "temperature": _HALF}),
        ("decode", ([_NOISE], 0.5), "decode", {"noise_00": _NOISE, "temperature": _HALF}),
        ("encode", (_FILES,), "encode", _FILE),
        ("encode", (_IMAGES,), "encode_pixels", {"image": _IMAGES}),
        ("encode", (_IMAGES / 255,), "encode_floats", {"image": (_IMAGES / 255).astype(np.float32)}),
        ("reconstruct", (_FILES, _SEEDS, 0.5), "reconstruct", {**_FILE, "seed": _SEEDS, "temperature": _HALF}),
        ("interpolate", (_FILES, _FILES[::-1], 0.5), "interpolate", {**_TWO_FILES, "alpha": _HALF}),
        (
            "interpolate_seeds",
            (_SEEDS.tolist(), [4, 5, 6], _HALF, 0.5),
            "interpolate_seeds",
            {"seed_a": _SEEDS, "seed_b": np.array([4, 5, 6]), "alpha": _HALF, "temperature": _HALF},
        ),
        ("score", (_IMAGES, _SEEDS), "score", {"image": _IMAGES, "seed": _SEEDS}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_method_answers_as_the_model_does(client, model, monkeypatch, method, arguments, signature, inputs):
    called = []
    monkeypatch.setattr(model, "hook", lambda name, inputs: called.append(name))
    received = getattr(client, method)(*arguments)
    assert called == [signature]
    monkeypatch.setattr(model, "checks", False)
    expected = model.predict(signature, inputs)
    assert set(received) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array, err_msg=name, strict=True)


def test_says_what_is_served(client):
    assert client.status() == [VersionStatus(3, "AVAILABLE", "")]
    version, signatures = client.metadata()
    assert version == 3 and "__saved_model_init_op" not in signatures
    assert signatures["score"].inputs == {
        "image": TensorSpec("uint8", (None, 6, 6, 1)),
        "seed": TensorSpec("int64", (None,)),
    }
    assert signatures["sample"].outputs["png_bytes"] == TensorSpec("string", (None,))


def test_signatures_are_requested_once(transport, model, monkeypatch):
    asked, metadata = [], model.metadata
    monkeypatch.setattr(model, "metadata", lambda **which: asked.append(which) or metadata(**which))
    client = Client(transport, "toy")
    client.sample([1], 1.0)
    after_one = len(asked)
    client.sample([2], 1.0)
    client.score(_IMAGES[:1], [1])
    assert len(asked) == after_one


@pytest.mark.parametrize("which", [{"version": 4}, {"label": "canary"}, {"model": "other"}], ids=str)
def test_what_is_not_served_is_not_found(transport, which):
    assert Client(transport, "toy", label="stable").status()
    client = Client(transport, **{"model": "toy", **which})
    for call in (client.status, client.metadata, lambda: client.sample([1], 1.0)):
        with pytest.raises(ServerError, match="Servable not found for request") as error:
            call()
        assert (error.value.code, error.value.model) == ("NOT_FOUND", client.model)


def test_wrong_inputs_are_not_sent(client, model, monkeypatch):
    called = []
    monkeypatch.setattr(model, "hook", lambda name, inputs: called.append(name))
    for call, message in (
        (lambda: client.sample([1], -1.0), "temperature: expected positive"),
        (lambda: client.sample(1, 1.0), "seed: expected shape"),
        (lambda: client.score(_IMAGES, [1]), "inputs: expected the same number of rows"),
        (lambda: client.encode(np.array(["a.png"])), "image_bytes: expected a list .* Received: an array of <U5"),
        (lambda: client.decode([_NOISE, _NOISE], 1.0), "noise: expected 1 arrays, one for each group. Received: 2"),
        (lambda: client.predict("draw", {}), "signature: expected one of .*'sample'.* Received: 'draw'"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert not called


def test_an_error_names_the_request_and_the_server(client, transport, model, monkeypatch):
    def refuse(name, inputs):
        raise tf.errors.InvalidArgumentError(None, None, "seed: not today")

    monkeypatch.setattr(model, "hook", refuse)
    with pytest.raises(ServerError, match="seed: not today") as error:
        client.sample([1], 1.0)
    assert (error.value.code, error.value.signature) == ("INVALID_ARGUMENT", "sample")
    text = str(error.value)
    assert text.startswith(f"{transport.endpoint}, model toy, signature sample: INVALID_ARGUMENT (wrong input, in this")


class _Fails:
    """A hook that raises the first `times` times and counts its calls."""

    def __init__(self, error, times):
        self.error, self.times, self.calls = error, times, 0

    def __call__(self, name, inputs):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error(None, None, "as the test wants")


@pytest.fixture
def waits(monkeypatch):
    """The waits between retries, which are skipped."""
    waits = []
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    return waits


def test_unavailable_is_retried_after_ever_longer_waits(client, model, monkeypatch, waits):
    hook = _Fails(tf.errors.UnavailableError, 4)
    monkeypatch.setattr(model, "hook", hook)
    assert client.sample([1], 1.0)["image"].shape == (1, 6, 6, 1)
    assert hook.calls == 5
    for wait, longest in zip(waits, [0.1, 0.2, 0.4, 0.8], strict=True):
        assert longest / 2 <= wait <= longest
    # The waits are random.
    hook.calls = 0
    client.sample([1], 1.0)
    assert len(set(waits)) == 8


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (tf.errors.UnavailableError, 3),
        (tf.errors.InvalidArgumentError, 1),
        (tf.errors.ResourceExhaustedError, 1),
    ],
)
def test_how_often_an_error_is_retried(transport, model, monkeypatch, waits, error, calls):
    hook = _Fails(error, 99)
    monkeypatch.setattr(model, "hook", hook)
    with pytest.raises(ServerError, match="as the test wants"):
        Client(transport, "toy", max_retries=2).sample([1], 1.0)
    assert (hook.calls, len(waits)) == (calls, calls - 1)


def test_retries_end_at_the_deadline(transport, model, monkeypatch):
    monkeypatch.setattr(model, "hook", _Fails(tf.errors.UnavailableError, 99))
    start = time.monotonic()
    with pytest.raises(ServerError) as error:
        Client(transport, "toy", timeout_seconds=0.5, max_retries=99).sample([1], 1.0)
    assert error.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and time.monotonic() - start < 2


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_server_that_starts_later_is_found(protocol):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client, ready = Client(_KINDS[protocol]("127.0.0.1", port), "toy", max_retries=50), threading.Event()

    def serve_later():
        time.sleep(0.4)
        with serving(ToyModel(), **{f"{protocol}_port": port}):
            ready.wait(20)

    server = threading.Thread(target=serve_later)
    server.start()
    try:
        assert client.sample([1], 1.0)["image"].shape == (1, 6, 6, 1)
    finally:
        ready.set()
        server.join()
        client.close()


@pytest.mark.parametrize(("kind", "other"), [("grpc", "rest"), ("rest", "grpc")])
def test_the_port_of_the_other_protocol(served, waits, kind, other):
    with pytest.raises(ServerError, match="UNIMPLEMENTED .another protocol at that port: .* REST 8501"):
        Client(_KINDS[kind]("127.0.0.1", served[1][other]), "toy").sample([1], 1.0)
    assert not waits


def test_a_late_answer_is_not_waited_for(transport, model, monkeypatch):
    client, late = Client(transport, "toy"), threading.Event()
    client.signature("sample")  # before the time limit, which a busy machine may exceed for this too
    monkeypatch.setattr(client, "_timeout", 0.4)
    monkeypatch.setattr(model, "hook", lambda name, inputs: late.wait(5))
    start = time.monotonic()
    with pytest.raises(ServerError, match="allow more, or send fewer rows") as error:
        client.sample([1], 1.0)
    late.set()
    assert error.value.code == "DEADLINE_EXCEEDED" and time.monotonic() - start < 3


def test_answers_may_be_larger_than_the_limit_of_grpc_itself(served, model, monkeypatch):
    large = np.zeros((1, 5_000_000), np.uint8)
    monkeypatch.setattr(model, "change", lambda name, outputs: {"image": large})
    client = Client(GrpcTransport("127.0.0.1", served[1]["grpc"]), "toy")
    assert client.sample([1], 1.0)["image"].nbytes == 5_000_000


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize("rows", [100, 10_000], ids=["answer", "request"])
def test_messages_over_the_clients_limit_are_refused(served, protocol, rows):
    transport = _KINDS[protocol]("127.0.0.1", served[1][protocol], max_message_bytes=8000)
    inputs = {"seed": np.arange(rows), "temperature": np.ones(rows, np.float32)}
    with pytest.raises(ServerError, match="larger than max_message_bytes") as error:
        transport.predict(ModelSpec("toy"), "sample", inputs, 20)
    assert error.value.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 1, "label": "stable"}, "version, label: expected one at most. Received: 1 and stable"),
        ({"timeout_seconds": 0}, "timeout_seconds: expected a positive number. Received: 0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds: expected a positive number. Received: nan"),
        ({"max_retries": -1}, "max_retries: expected at least 0. Received: -1"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Client(None, **arguments)
