"""The protocol of the stand-in, where the checks of a server (test_stand_in_export.py) do not look."""

import ast
import base64
import pathlib
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import regression_pb2

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

    def test_strings(self, server):
        png = b"\x89PNG\0"
        assert server.predict("echo", {"text": [png]})["text_bytes"].tolist() == [png]

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

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            {"instances": [1], "inputs": [1]},
            {"instances": []},
            {"instances": [1.5]},
            {"instances": [2**99]},
            {"signature_name": "add", "instances": [1]},
            {"signature_name": "echo", "instances": [{"b64": "/w=="}]},
        ],
        ids=["nesting", "both forms", "no rows", "float", "large integer", "unnamed", "binary output without _bytes"],
    )
    def test_errors(self, server, body):
        status, answer = server.rest(self.predict, body)
        assert (status, list(answer)) == (400, ["error"])
        assert answer["error"]
