"""Versions that come and go under a base path while requests run."""

import concurrent.futures
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

_POLL = "--poll_seconds=0.05"


def _versions(server):
    """{version: state} of the status."""
    _, answer = server.rest("/v1/models/nvae")
    return {int(entry["version"]): entry["state"] for entry in answer["model_version_status"]}


def _wait(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def _publish(write, base_path, version, **spy):
    """Writes a version under another name, which is skipped, and renames it."""
    aside = base_path / f"{version}.writing"
    write(aside, **spy)
    aside.rename(base_path / str(version))


def _answer(server, **spec):
    return server.predict("", {"value": np.int64([5])}, **spec)["version"].item()


def _warm_up(folder, *values):
    folder = folder / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for value in values:
            request = predict_pb2.PredictRequest()
            request.inputs["value"].CopyFrom(tf.make_tensor_proto(np.int64([value])))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def test_a_version_comes_breaks_and_goes_while_requests_run(start_stand_in, write_spy, tmp_path):
    write_spy(tmp_path / "1", answer=1)
    server = start_stand_in(tmp_path, _POLL)
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(_answer(server))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        _publish(write_spy, tmp_path, 2, answer=2)
        _wait(lambda: _versions(server) == {2: "AVAILABLE", 1: "END"})
        with pytest.raises(grpc.RpcError) as error:
            _answer(server, version=1)
        assert error.value.code().name == "NOT_FOUND"
        # A version that cannot be loaded is told in the status; the one before serves on.
        aside = tmp_path / "3.writing"
        write_spy(aside, answer=3, minimum=7)
        _warm_up(aside, 8, 5)
        aside.rename(tmp_path / "3")
        _wait(lambda: _versions(server).get(3) == "END")
        _, told = server.rest("/v1/models/nvae/versions/3")
        assert told["model_version_status"][0]["status"]["error_code"] == "INVALID_ARGUMENT"
        assert "value: too small" in told["model_version_status"][0]["status"]["error_message"]
        assert _answer(server) == 2
        # Back to the first: the newer ones are taken away.
        for version in ("3", "2"):
            (tmp_path / version).rename(tmp_path / f"{version}.gone")
        _wait(lambda: _versions(server)[1] == "AVAILABLE" and _versions(server)[2] == "END")
        assert _answer(server) == 1
        stop.set()
        for each in asking:
            each.result()
    assert set(answers) == {1, 2}


def test_labels_and_several_versions(start_stand_in, write_spy, tmp_path):
    for version in (1, 2, 3):
        write_spy(tmp_path / str(version), answer=version)
    config = tmp_path / "models.config"
    config.write_text(
        """model_config_list { config {
          name: 'nvae' base_path: '/models/nvae' model_platform: 'tensorflow'
          model_version_policy { specific { versions: 1 versions: 3 } }
          version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 3 }
        } }"""
    )
    server = start_stand_in(tmp_path, f"--model_config_file={config}")
    assert _versions(server) == {3: "AVAILABLE", 1: "AVAILABLE"}
    assert [_answer(server, version_label=label) for label in ("stable", "canary", "")] == [1, 3, 3]
    assert [_answer(server, version=version) for version in (1, 3)] == [1, 3]
    status, answer = server.rest("/v1/models/nvae/labels/stable:predict", {"instances": [5]})
    assert (status, answer["predictions"][0]["version"]) == (200, 1)
    assert server.rest("/v1/models/nvae/labels/other:predict", {"instances": [5]})[0] == 404
    assert server.rest("/v1/models/nvae/versions/2:predict", {"instances": [5]})[0] == 404
