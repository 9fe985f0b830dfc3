"""Versions that come and go under a base path while requests run."""

import concurrent.futures
import functools
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.serving.stand_in_versions import Versions, read_model_config

_INPUTS = {"value": np.int64([5])}


def _write_warm_up(version_folder, *values):
    folder = version_folder / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for value in values:
            request = predict_pb2.PredictRequest()
            request.inputs["value"].CopyFrom(tf.make_tensor_proto(np.int64([value])))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def test_versions_come_fail_and_go_while_requests_run(start_stand_in, write_spy, tmp_path):
    write_spy(tmp_path / "1", answer=1)
    server = start_stand_in(tmp_path, "--poll_seconds=0.05")
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(server.predict("", _INPUTS)["version"].item())

    def write_with_failing_warm_up(folder):
        write_spy(folder, answer=3, minimum=7)
        _write_warm_up(folder, 8, 5)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            server.publish(2, functools.partial(write_spy, answer=2))
            server.wait_for({2: "AVAILABLE", 1: "END"})
            with pytest.raises(grpc.RpcError) as error:
                server.predict("", _INPUTS, version=1)
            assert error.value.code().name == "NOT_FOUND"
            # A version that cannot be loaded is told in the status; the one before serves on.
            server.publish(3, write_with_failing_warm_up)
            server.wait_for({3: "END", 2: "AVAILABLE", 1: "END"})
            _, told = server.rest("/v1/models/nvae/versions/3")
            assert told["model_version_status"][0]["status"]["error_code"] == "INVALID_ARGUMENT"
            assert "value: too small" in told["model_version_status"][0]["status"]["error_message"]
            # Back to the first: the newer ones are taken away.
            for number in ("3", "2"):
                (tmp_path / number).rename(tmp_path / f"{number}.gone")
            server.wait_for({3: "END", 2: "END", 1: "AVAILABLE"})
            assert server.predict("", _INPUTS)["version"].item() == 1
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert set(answers) == {1, 2}


def test_labels_and_several_versions(write_spy, tmp_path):
    for number in (1, 2, 3):
        write_spy(tmp_path / str(number), answer=number)
    path = tmp_path / "models.config"
    path.write_text(
        """model_config_list { config {
          name: 'nvae' base_path: '/models/nvae' model_platform: 'tensorflow'
          model_version_policy { specific { versions: 1 versions: 3 } }
          version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 3 }
        } }"""
    )
    config = read_model_config(path, "nvae")
    config.base_path = str(tmp_path)
    versions = Versions(config, None)
    versions.poll()

    def answer(**which):
        with versions.use("nvae", **which) as (number, version):
            assert version.predict("", _INPUTS)["version"].item() == number
            return number

    assert [status.version for status in versions.status("nvae")] == [3, 1]
    assert [answer(label=label) for label in ("stable", "canary")] == [1, 3]
    assert [answer(number=1), answer(number=3), answer()] == [1, 3, 3]
    for which in ({"number": 2}, {"label": "other"}):
        with pytest.raises(tf.errors.NotFoundError):
            answer(**which)
    versions.close()
