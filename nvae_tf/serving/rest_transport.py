"""REST to a server of TensorFlow Serving's protocol."""

import base64
import contextlib
import functools
import json
import time

import numpy as np
import requests
import requests.adapters
import urllib3

from nvae_tf.serving.protocol import Metadata, ServerError, read_signatures, read_status

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MAX_CONNECTIONS = 1024  # kept open, enough for the threads that may ask at once


class RestTransport:
    """Sends single requests, without checks or retries. Threads may share it.

    Args:
        host: name or address. Default "localhost".
        port: port of REST. Default 8501.
        tls: `TLS`; None for no encryption. TensorFlow Serving itself has none for REST, but a proxy in front of it may.
            Default None.
        max_message_bytes: largest body to send or receive. Default 256 MiB.

    Raises:
        ServerError: raised by every method if there is no answer. HTTP's 400 is INVALID_ARGUMENT (and stands for
            FAILED_PRECONDITION too), 404 NOT_FOUND, 429 RESOURCE_EXHAUSTED, 500 INTERNAL, 503 UNAVAILABLE, 504
            DEADLINE_EXCEEDED; an answer that is cut short is UNAVAILABLE, and one that is not HTTP UNIMPLEMENTED.
            Connecting, head and body share the timeout of a request; only a head that trickles in is waited for.
    """

    def __init__(self, host="localhost", port=8501, tls=None, max_message_bytes=2**28):
        scheme = "http" if tls is None else "https"
        self.endpoint, self._max_bytes = f"{scheme}://{host}:{port}", max_message_bytes
        self._session = requests.Session()
        self._session.mount(f"{scheme}://", requests.adapters.HTTPAdapter(pool_maxsize=_MAX_CONNECTIONS))
        # Given with every request, because the environment's REQUESTS_CA_BUNDLE overrides those of the session.
        self._tls = {}
        if tls is not None:
            certificate = (tls.client_cert, tls.client_key) if tls.client_cert else None
            self._tls = {"verify": tls.root_certs or True, "cert": certificate}
        self._outputs = {}  # {(model, signature): {name: TensorSpec}}

    def predict(self, model, signature, inputs, timeout):
        """Runs a signature; for the arguments see `GrpcTransport.predict`."""
        body = {"inputs": {name: json_value(array) for name, array in inputs.items()}}
        if signature:
            body["signature_name"] = signature
        values = self.post(model, body, timeout, signature).get("outputs")
        # JSON names neither dtypes nor the only output of a signature, but the metadata do.
        key = model, signature or "serving_default"
        if key not in self._outputs:
            signatures = self.metadata(model, timeout).signatures
            self._outputs |= {(model, name): each.outputs for name, each in signatures.items()}
        with self._parsing("an answer that does not fit the signature", model, signature):
            specs = self._outputs[key]
            if len(specs) == 1:
                values = {name: values for name in specs}
            return {name: _array(values[name], spec) for name, spec in specs.items()}

    def metadata(self, model, timeout):
        """`Metadata` of a `ModelSpec`; `timeout` in seconds."""
        answer = self._request("GET", model, "/metadata", None, timeout, None)
        with self._parsing("metadata that cannot be read", model):
            signatures = read_signatures(answer["metadata"]["signature_def"]["signature_def"])
            return Metadata(int(answer["model_spec"]["version"]), signatures)

    def status(self, model, timeout):
        """List of `VersionStatus`, the latest version first; `timeout` in seconds."""
        answer = self._request("GET", model, "", None, timeout, None)
        with self._parsing("a status that cannot be read", model):
            return read_status(answer)

    def post(self, model, body, timeout, signature=None):
        """Posts a body of the predict API, a dict or bytes that are sent unchanged; returns the answer, a dict."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if len(data) > self._max_bytes:
            message = f"a request of {len(data)} bytes"
            raise ServerError("RESOURCE_EXHAUSTED", message, self.endpoint, model, signature)
        return self._request("POST", model, ":predict", data, timeout, signature)

    def close(self):
        """Closes the connections."""
        self._session.close()

    @contextlib.contextmanager
    def _parsing(self, what, model, signature=None):
        """Turns errors of the lines inside into a `ServerError` about an answer that is not of the protocol."""
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServerError("UNKNOWN", f"{what}: {error!r}", self.endpoint, model, signature) from error

    def _request(self, method, model, ending, data, timeout, signature):
        path = f"/v1/models/{model.name}"
        if model.version is not None:
            path += f"/versions/{model.version}"
        elif model.label:
            path += f"/labels/{model.label}"
        fail = functools.partial(ServerError, endpoint=self.endpoint, model=model, signature=signature)
        status, content = self._exchange(method, f"{self.endpoint}{path}{ending}", data, timeout, fail)
        try:
            answer = json.loads(content)
            if status == 200 and isinstance(answer, dict):
                return answer
            message = answer["error"]
        except (KeyError, TypeError, ValueError):
            # A proxy's page, or another program at that port.
            message = f"HTTP {status}: {content[:200]!r}"
        raise fail(_CODES.get(status, "UNKNOWN"), message)

    def _exchange(self, method, url, data, timeout, fail):
        deadline = time.monotonic() + timeout
        # Connecting and the wait for the head share the time; the body gets what is left of it.
        options = {"data": data, "timeout": urllib3.Timeout(total=timeout), "stream": True, **self._tls}
        try:
            with self._session.request(method, url, **options) as response:
                return response.status_code, self._content(response.raw, deadline, fail)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            late = isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
            if late or time.monotonic() >= deadline:
                raise fail("DEADLINE_EXCEEDED", f"none within {timeout:.3g} s") from error
            if "BadStatusLine(" in str(error):  # another try would not help
                raise fail("UNIMPLEMENTED", "an answer that is not HTTP") from error
            # A body that is cut short is a ProtocolError.
            lost = isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError)
            raise fail("UNAVAILABLE" if lost else "UNKNOWN", str(error)) from error

    def _content(self, response, deadline, fail):
        content = bytearray()
        while (left := deadline - time.monotonic()) > 0:
            # Without a socket (at the end, or if the server closes the connection) each wait has the whole time.
            if socket := getattr(response.connection, "sock", None):
                socket.settimeout(left)
            # `read` may wait for every byte of its size; `read1` returns what is there.
            piece = response.read1(2**16, decode_content=True)
            if not piece:
                return bytes(content)
            content += piece
            if len(content) > self._max_bytes:
                raise fail("RESOURCE_EXHAUSTED", f"an answer of more than {self._max_bytes} bytes")
        raise fail("DEADLINE_EXCEEDED", f"{len(content)} bytes of an answer within the time")


def json_value(array):
    """An array in the form of the predict API: nested lists, and bytes as `{"b64": ...}`."""
    array = np.asarray(array)
    if array.dtype == object:
        return [{"b64": base64.b64encode(value).decode()} for value in array]
    return array.tolist()


def _array(values, spec):
    if spec.dtype == "string":
        rows = [base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode() for value in values]
        array = np.empty(len(rows), object)
        array[:] = rows
        return array
    return np.array(values, spec.dtype)
