"""A third-party client for this protocol understands the server and the export.

Without a version it asks for 0, which to TensorFlow Serving is a version like any other, so 1 is given.
"""

import base64

import numpy as np
import ovmsclient
import pytest
from ovmsclient.tfs_compat.base import errors

_INPUTS = {"seed": np.int64([1, 2, 3]), "temperature": np.float32([0.7, 0.7, 1.0])}
_SHAPES = {"image": [-1, 6, 6, 1], "png_bytes": [-1]}


@pytest.fixture(scope="module", params=["grpc", "http"])
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def client(protocol, stand_in):
    if protocol == "grpc":
        return ovmsclient.make_grpc_client(f"127.0.0.1:{stand_in.grpc_port}")
    return ovmsclient.make_http_client(f"127.0.0.1:{stand_in.rest_port}")


def test_status(client):
    available = {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    assert client.get_model_status("nvae", 1) == {1: available}


def test_metadata(client, protocol):
    metadata = client.get_model_metadata("nvae", 1)
    if protocol == "grpc":
        assert metadata["model_version"] == 1
        received = {name: output["shape"] for name, output in metadata["outputs"].items()}
    else:
        # Over HTTP it returns the server's own JSON: it knows no other names than those of its own server.
        assert metadata["model_spec"]["version"] == "1"
        outputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]
        shapes = {name: output["tensor_shape"]["dim"] for name, output in outputs.items()}
        received = {name: [int(dim["size"]) for dim in dims] for name, dims in shapes.items()}
    assert received == _SHAPES


def test_predict(client, protocol, stand_in):
    expected = stand_in.predict("sample", _INPUTS)
    received = client.predict(_INPUTS, "nvae", 1)
    np.testing.assert_array_equal(received["image"], expected["image"])
    files = received["png_bytes"].tolist()
    if protocol == "http":
        files = [base64.b64decode(file["b64"]) for file in files]
    assert files == expected["png_bytes"].tolist()


def test_errors(client):
    with pytest.raises(errors.ModelNotFoundError):
        client.predict(_INPUTS, "other", 1)
    with pytest.raises(errors.ModelNotFoundError):
        client.get_model_status("nvae", 2)
    with pytest.raises(errors.InvalidInputError, match="temperature: expected a positive"):
        client.predict(_INPUTS | {"temperature": -_INPUTS["temperature"]}, "nvae", 1)
