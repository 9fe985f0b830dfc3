"""The REST side of the stand-in: predict, status and metadata over HTTP.

g3doc/api_rest.md: the paths, `{"error": ...}`, and JSON of apis/get_model_status.proto and
apis/get_model_metadata.proto. 400 for bad input, 404 for an unknown model or version; 429, 500, 503 and 504.

Unsourced: 400 for any other path or verb, and for FAILED_PRECONDITION.
"""

import http.server
import json
import re
import threading

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tests.serving import stand_in_json

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict|/metadata)?")
_STATUS = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}


def serve(versions, port):
    """Starts the server on a loopback port, 0 for a free one; returns (server, port)."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.versions = versions
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, server.server_port


class _Server(http.server.ThreadingHTTPServer):
    # Connections that arrive together and do not fit here are tried again only after a second.
    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = default_request_version = "HTTP/1.1"  # of answers to other protocols too
    # Head and body are two writes, of which the second would wait for the client to acknowledge the first.
    disable_nagle_algorithm = True

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *arguments):
        """Prints nothing, because stderr is for errors."""

    def _answer(self, body):
        try:
            status, answer = 200, self._route(body)
        except tf.errors.OpError as error:
            status, answer = _STATUS.get(error.error_code, 500), {"error": error.message}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, body):
        match = _PATH.fullmatch(self.path)
        verb = (self.command, match[4]) if match else None
        if verb not in (("GET", None), ("GET", "/metadata"), ("POST", ":predict")):
            raise tf.errors.InvalidArgumentError(None, None, f"Malformed request: {self.command} {self.path}")
        versions, number = self.server.versions, None if match[2] is None else int(match[2])
        which = {"name": match[1], "number": number, "label": match[3] or ""}
        if verb == ("POST", ":predict"):
            with versions.use(**which) as (_, version):
                return stand_in_json.predict(version, body)
        if verb == ("GET", "/metadata"):
            return _metadata(versions.metadata(**which))
        return _json(get_model_status_pb2.GetModelStatusResponse(model_version_status=versions.status(**which)))


def _metadata(response):
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _json(response.model_spec), "metadata": {"signature_def": _json(signatures)}}


def _json(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
