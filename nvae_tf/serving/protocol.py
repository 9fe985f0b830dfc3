"""What gRPC and REST have in common: the model to ask, its signatures, its versions, and errors."""

import dataclasses
from typing import NamedTuple

_ADVICE = {
    "NOT_FOUND": "the server has no such model, version or label",
    "UNAVAILABLE": "nothing answers there, or it is not ready or its queue full: check host, port and TLS, or wait",
    "DEADLINE_EXCEEDED": "no answer in time: allow more, or send fewer rows",
    "RESOURCE_EXHAUSTED": "the message is larger than max_message_bytes (--max_message_mb) or the server's limit",
    "INVALID_ARGUMENT": "wrong input, in this request or in one that was merged with it into a batch",
    "FAILED_PRECONDITION": "no such signature, or a request of another shape was merged with this one into a batch",
    "INTERNAL": "an error of the server, or a request of another dtype was merged with this one into a batch",
    "UNIMPLEMENTED": "another protocol at that port: check host, port and TLS; gRPC has 8500 and REST 8501 by default",
}


class ServerError(OSError):
    """A request failed or got no answer.

    Attributes:
        code: name of gRPC's status code, for REST too, such as `"NOT_FOUND"`.
        message: text of the server or of the connection.
        endpoint: where the request went, such as `"grpc://localhost:8500"`.
        model: the `ModelSpec` of the request.
        signature: name of its signature; None for requests without one.
    """

    def __init__(self, code, message, endpoint, model, signature=None):
        self.code, self.message, self.endpoint, self.model, self.signature = code, message, endpoint, model, signature
        advice = f" ({_ADVICE[code]})" if code in _ADVICE else ""
        asked = f"model {model}" + (f", signature {signature}" if signature else "")
        super().__init__(f"{endpoint}, {asked}: {code}{advice}. Received: {message}")


class InputError(ValueError):
    """An input does not fit the signature; raised before anything is sent."""


class ModelSpec(NamedTuple):
    """Name of a model with a version (an integer) or a label; without either, the latest version."""

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self):
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return f"{self.name} label {self.label}" if self.label else self.name


class TensorSpec(NamedTuple):
    """Dtype name (`"string"` for bytes) and shape of an input or output, with None for any size."""

    dtype: str
    shape: tuple


class Signature(NamedTuple):
    """Inputs and outputs of a signature, both `{name: TensorSpec}`."""

    inputs: dict
    outputs: dict


class Metadata(NamedTuple):
    """The version that answers and its signatures, `{name: Signature}`."""

    version: int
    signatures: dict


class VersionStatus(NamedTuple):
    """State of a version, such as `"AVAILABLE"` or `"LOADING"`, and its error, which is empty if there is none."""

    version: int
    state: str
    error: str


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """PEM files for a TLS connection; ValueError for a client's certificate without its key, or the reverse."""

    root_certs: str | None = None  # the authorities to trust; None for those of the system
    client_cert: str | None = None  # the client's certificate, if the server asks for one
    client_key: str | None = None  # the key of the certificate

    def __post_init__(self):
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError(
                f"client_cert, client_key: expected both or neither. Received: {self.client_cert}, {self.client_key}"
            )


def read_status(answer):
    """List of `VersionStatus`, the latest version first, of a GetModelStatusResponse in its JSON form."""
    versions = [
        VersionStatus(int(entry["version"]), entry["state"], entry["status"]["error_message"])
        for entry in answer["model_version_status"]
    ]
    return sorted(versions, reverse=True)


def read_signatures(definitions):
    """`{name: Signature}` of `{name: SignatureDef in its JSON form}`.

    TensorFlow 2 also lists the initialiser of the SavedModel, which cannot be called.
    """
    return {
        name: Signature(_specs(definition.get("inputs", {})), _specs(definition.get("outputs", {})))
        for name, definition in definitions.items()
        if not name.startswith("__saved_model")
    }


def _specs(infos):
    specs = {}
    for name, info in infos.items():
        dtype = info["dtype"].removeprefix("DT_").lower()
        dtype = {"float": "float32", "double": "float64", "half": "float16"}.get(dtype, dtype)
        sizes = [int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])]
        specs[name] = TensorSpec(dtype, tuple(None if size == -1 else size for size in sizes))
    return specs
