"""The protocol of the stand-in, by the files that its parts name and the official stubs."""

import ast
import base64
import pathlib
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, regression_pb2

_ROWS = np.arange(3)


@pytest.fixture(scope="module")
def server(start_stand_in, write_spy, tmp_path_factory):
    base_path = tmp_path_factory.mktemp("spy")
    write_spy(base_path / "1", answer=1)
    return start_stand_in(base_path)


def _code(call, *arguments, **keywords):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **keywords)
    assert error.value.details()
    return error.value.code().name


def test_it_imports_nothing_of_the_project():
    allowed = {"tensorflow", "tensorflow_serving", "google", "grpc", "numpy"} | sys.stdlib_module_names
    files = sorted(pathlib.Path(__file__).parent.glob("stand_in*.py"))
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names] if node.module == "tests.serving" else [node.module]
                imported |= {name.removeprefix("tests.serving.") for name in names}
    assert "tensorflow" in imported
    assert {name.partition(".")[0] for name in imported} <= allowed | {file.stem for file in files}


class TestPredict:
    def test_answers_with_what_was_asked(self, server):
        response = server.prediction.Predict(server.request("", {"value": _ROWS}))
        assert response.model_spec.name == server.name
        assert response.model_spec.version.value == 1
        assert response.model_spec.signature_name == "serving_default"
        outputs = {name: tf.make_ndarray(value).tolist() for name, value in response.outputs.items()}
        assert outputs == {"value": [0, 1, 2], "version": [1] * 3, "batch_size": [3] * 3, "position": [0, 1, 2]}

    def test_output_filter(self, server):
        assert list(server.predict("", {"value": _ROWS}, ["position"])) == ["position"]

    def test_version(self, server):
        assert server.predict("", {"value": _ROWS}, version=1)["version"].tolist() == [1] * 3

    def test_strings(self, server):
        png = b"\x89PNG\0"
        assert server.predict("echo", {"text": [png]})["text_bytes"].tolist() == [png]

    @pytest.mark.parametrize(
        ("signature", "inputs", "keywords", "code"),
        [
            pytest.param("", {"value": _ROWS}, {"name": "other"}, "NOT_FOUND", id="model"),
            pytest.param("", {"value": _ROWS}, {"version": 2}, "NOT_FOUND", id="version"),
            pytest.param("other", {"value": _ROWS}, {}, "FAILED_PRECONDITION", id="signature"),
            pytest.param("add", {"value": _ROWS}, {}, "INVALID_ARGUMENT", id="missing_input"),
            pytest.param("", {"value": _ROWS, "more": _ROWS}, {}, "INVALID_ARGUMENT", id="extra_input"),
            pytest.param("", {}, {}, "INVALID_ARGUMENT", id="no_input"),
            pytest.param("", {"value": np.float32([1])}, {}, "INVALID_ARGUMENT", id="dtype"),
            pytest.param("", {"value": np.int64([-1])}, {}, "INVALID_ARGUMENT", id="value"),
            pytest.param("mean", {"matrix": np.ones([1, 4], np.float32)}, {}, "INVALID_ARGUMENT", id="shape"),
            pytest.param("", {"value": _ROWS}, {"output_filter": ["other"]}, "INVALID_ARGUMENT", id="output"),
        ],
    )
    def test_codes(self, server, signature, inputs, keywords, code):
        assert _code(server.predict, signature, inputs, **keywords) == code

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"dtype": 9, "tensor_content": b"123"}, id="content"),
            pytest.param({"dtype": 99}, id="dtype"),
            pytest.param({"dtype": 9, "int64_val": [7], "tensor_shape": {"dim": [{"size": 2**50}]}}, id="size"),
            pytest.param({"dtype": 9, "int64_val": [7], "tensor_shape": {"dim": [{"size": -1}]}}, id="negative_size"),
        ],
    )
    def test_broken_tensors(self, server, fields):
        assert _code(server.predict, "", {"value": TensorProto(**fields)}) == "INVALID_ARGUMENT"

    def test_other_methods_are_unimplemented(self, server):
        assert _code(server.prediction.Regress, regression_pb2.RegressionRequest()) == "UNIMPLEMENTED"


class TestMetadataAndStatus:
    def metadata(self, server, **fields):
        request = get_model_metadata_pb2.GetModelMetadataRequest(**fields)
        request.model_spec.name = request.model_spec.name or server.name
        return server.prediction.GetModelMetadata(request)

    def status(self, server, **spec):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = spec.get("name", server.name)
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        return server.models.GetModelStatus(request)

    def test_metadata_names_all_signatures(self, server):
        response = self.metadata(server, metadata_field=["signature_def"])
        assert response.model_spec.version.value == 1
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        assert set(signatures.signature_def) >= {"serving_default", "echo", "mean", "add"}
        matrix = signatures.signature_def["mean"].inputs["matrix"]
        assert (matrix.dtype, [dim.size for dim in matrix.tensor_shape.dim]) == (tf.float32, [-1, 3])

    def test_status_is_available(self, server):
        (status,) = self.status(server).model_version_status
        assert (status.version, status.state, status.status.error_code) == (1, status.AVAILABLE, 0)

    def test_codes(self, server):
        assert _code(self.metadata, server) == "INVALID_ARGUMENT"
        other = {"metadata_field": ["signature_def"], "model_spec": {"name": "other"}}
        assert _code(self.metadata, server, **other) == "NOT_FOUND"
        assert _code(self.status, server, name="other") == "NOT_FOUND"
        assert _code(self.status, server, version=2) == "NOT_FOUND"


class TestRest:
    predict = "/v1/models/nvae:predict"

    def test_rows(self, server):
        status, answer = server.rest(self.predict, {"instances": [5, {"value": 6}]})
        rows = [{"value": 5 + i, "version": 1, "batch_size": 2, "position": i} for i in range(2)]
        assert (status, answer) == (200, {"predictions": rows})

    def test_columns(self, server):
        status, answer = server.rest("/v1/models/nvae/versions/1:predict", {"inputs": {"value": [5, 6]}})
        columns = {"value": [5, 6], "version": [1, 1], "batch_size": [2, 2], "position": [0, 1]}
        assert (status, answer) == (200, {"outputs": columns})

    @pytest.mark.parametrize(("form", "key"), [("instances", "predictions"), ("inputs", "outputs")])
    def test_one_output_loses_its_name(self, server, form, key):
        status, answer = server.rest(self.predict, {"signature_name": "mean", form: [[3, 6, 9], [0, 0, 0]]})
        assert status == 200
        np.testing.assert_allclose(answer[key], [6, 0], rtol=1e-6)

    def test_only_outputs_named_bytes_are_base64(self, server):
        b64 = base64.b64encode(b"text").decode()
        body = {"signature_name": "echo", "instances": [{"b64": b64}]}
        assert server.rest(self.predict, body) == (200, {"predictions": [{"text": "text", "text_bytes": {"b64": b64}}]})

    def test_status(self, server):
        entry = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for path in ("/v1/models/nvae", "/v1/models/nvae/versions/1"):
            assert server.rest(path) == (200, {"model_version_status": [entry]})

    def test_metadata(self, server):
        status, answer = server.rest("/v1/models/nvae/metadata")
        assert (status, answer["model_spec"]["version"]) == (200, "1")
        mean = answer["metadata"]["signature_def"]["signature_def"]["mean"]
        assert mean["method_name"] == "tensorflow/serving/predict"
        assert mean["inputs"]["matrix"]["dtype"] == "DT_FLOAT"
        assert [dim["size"] for dim in mean["inputs"]["matrix"]["tensor_shape"]["dim"]] == ["-1", "3"]

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            pytest.param("/v1/models/other", None, 404, id="status_model"),
            pytest.param("/v1/models/other:predict", {"instances": [1]}, 404, id="predict_model"),
            pytest.param("/v1/models/nvae:other", {"instances": [1]}, 400, id="method"),
            pytest.param(predict, None, 400, id="get"),
            pytest.param(predict, b"{", 400, id="json"),
            pytest.param(predict, b"[" * 100_000, 400, id="nesting"),
            pytest.param(predict, [1], 400, id="no_object"),
            pytest.param(predict, {"instances": [1], "inputs": [1]}, 400, id="both_forms"),
            pytest.param(predict, {"instances": []}, 400, id="no_rows"),
            pytest.param(predict, {"instances": [1.5]}, 400, id="float_for_int"),
            pytest.param(predict, {"instances": [2**99]}, 400, id="large_integer"),
            pytest.param(predict, {"instances": ["1"]}, 400, id="text_for_int"),
            pytest.param(predict, {"instances": [[1], [2, 3]]}, 400, id="ragged"),
            pytest.param(predict, {"inputs": {"other": [1]}}, 400, id="unknown_input"),
            pytest.param(predict, {"instances": [-1]}, 400, id="value"),
            pytest.param(predict, {"signature_name": "other", "instances": [1]}, 400, id="signature"),
            pytest.param(predict, {"signature_name": "add", "instances": [1]}, 400, id="unnamed"),
            pytest.param(predict, {"signature_name": "echo", "instances": [{"b64": "?"}]}, 400, id="base64"),
            pytest.param(predict, {"signature_name": "echo", "instances": [{"b64": "/w=="}]}, 400, id="binary_output"),
        ],
    )
    def test_errors(self, server, path, body, status):
        received, answer = server.rest(path, body)
        assert (received, list(answer)) == (status, ["error"])
        assert answer["error"]
