"""What is specific to REST: HTTP's codes, and answers from something that is not a model server."""

import contextlib
import http.server
import json
import threading
import time

import numpy as np
import pytest

from nvae_tf.serving.protocol import ModelSpec, ServerError
from nvae_tf.serving.rest_transport import RestTransport

_MODEL = ModelSpec("toy")
_INPUTS = {"seed": np.array([1])}


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        """Prints nothing."""

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(self.path)
        status, content = self.server.answers[self.command]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) + self.server.bytes_cut))
        self.end_headers()
        if not self.server.seconds_a_byte:
            self.wfile.write(content)
            return
        with contextlib.suppress(ConnectionError):
            for byte in content:
                time.sleep(self.server.seconds_a_byte)
                self.wfile.write(bytes([byte]))


@pytest.fixture(scope="module")
def scripted():
    """Server whose answers are set by its attribute `answers`, {HTTP method: (status, content)}."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(scripted):
    scripted.paths, scripted.seconds_a_byte, scripted.bytes_cut = [], 0, 0
    tensor = {"dtype": "DT_UINT8", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
    definitions = {"sample": {"inputs": {}, "outputs": {"image": tensor}}}
    metadata = {"model_spec": {"version": "3"}, "metadata": {"signature_def": {"signature_def": definitions}}}
    scripted.answers = {"GET": (200, json.dumps(metadata).encode()), "POST": (200, b'{"outputs": [[1, 2]]}')}
    return scripted


@pytest.fixture
def transport(server):
    transport = RestTransport("127.0.0.1", server.server_port)
    yield transport
    transport.close()


def test_the_only_output_gets_its_name_and_dtype_from_the_metadata(transport, server):
    for _ in range(2):
        outputs = transport.predict(_MODEL, "sample", _INPUTS, 5)
    np.testing.assert_array_equal(outputs["image"], np.array([[1, 2]], np.uint8), strict=True)
    predict = "/v1/models/toy:predict"
    assert server.paths == [predict, "/v1/models/toy/metadata", predict]


def test_zero_is_a_version(transport, server):
    transport.predict(ModelSpec("toy", 0), "sample", _INPUTS, 5)
    assert server.paths == ["/v1/models/toy/versions/0:predict", "/v1/models/toy/versions/0/metadata"]


@pytest.mark.parametrize(
    ("status", "code"), [(404, "NOT_FOUND"), (418, "UNKNOWN"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")]
)
@pytest.mark.parametrize("content", [b'{"error": "the reason"}', b"<html>the reason</html>", b'["the reason"]'])
def test_codes(transport, server, status, code, content):
    server.answers["POST"] = status, content
    with pytest.raises(ServerError, match="the reason") as error:
        transport.predict(_MODEL, "sample", _INPUTS, 5)
    assert error.value.code == code


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"{}",
        b"[]",
        b'{"outputs": [[1, 2], [3]]}',
        b'{"outputs": [["a", "b"]]}',
        b'{"outputs": [[300, 1]]}',
        b'{"outputs": {"other": []}}',
    ],
    ids=str,
)
def test_answers_of_another_kind(transport, server, content):
    server.answers["POST"] = 200, content
    with pytest.raises(ServerError) as error:
        transport.predict(_MODEL, "sample", _INPUTS, 5)
    assert error.value.code == "UNKNOWN"


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"model_version_status": 1, "model_spec": 1}'], ids=str)
def test_status_and_metadata_of_another_kind(transport, server, content):
    server.answers["GET"] = 200, content
    for question in (transport.status, transport.metadata):
        with pytest.raises(ServerError) as error:
            question(_MODEL, 5)
        assert error.value.code == "UNKNOWN"


@pytest.mark.parametrize(("seconds_a_byte", "length"), [(0.1, 20), (2, 1)], ids=["trickles", "does not arrive"])
def test_a_body_that_is_late_ends_at_the_deadline(transport, server, seconds_a_byte, length):
    server.answers["POST"], server.seconds_a_byte = (200, bytes(length)), seconds_a_byte
    start = time.monotonic()
    with pytest.raises(ServerError) as error:
        transport.post(_MODEL, {}, 0.3)
    assert error.value.code == "DEADLINE_EXCEEDED" and time.monotonic() - start < 1


def test_an_answer_that_is_cut_short_is_unavailable(transport, server):
    server.bytes_cut = 1
    with pytest.raises(ServerError) as error:
        transport.post(_MODEL, {}, 5)
    assert error.value.code == "UNAVAILABLE"
