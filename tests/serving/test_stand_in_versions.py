"""Versions that come and go under a base path while requests run."""

import concurrent.futures
import functools
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.serving.stand_in_versions import Versions

_INPUTS = {"value": np.int64([5])}


class _Spy(tf.Module):
    """A model that answers with its version, and refuses values below a minimum."""

    def __init__(self, answer, minimum):
        super().__init__()
        self._answer, self._minimum = answer, minimum

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def serve(self, value):
        tf.debugging.assert_greater_equal(value, tf.constant(self._minimum, tf.int64), "value: too small")
        return {"version": tf.fill([tf.size(value)], self._answer)}


def _write_spy(folder, answer, minimum=0):
    spy = _Spy(answer, minimum)
    tf.saved_model.save(spy, str(folder), spy.serve)


def _write_warm_up(version_folder, *values):
    folder = version_folder / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for value in values:
            request = predict_pb2.PredictRequest()
            request.inputs["value"].CopyFrom(tf.make_tensor_proto(np.int64([value])))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def test_a_label_moves_only_to_a_version_that_is_available(tmp_path, capfd):
    config = tmp_path / "models.config"
    versions = Versions("spy", tmp_path, None, config)
    for number in (1, 2):
        _write_spy(tmp_path / str(number), answer=number)

    def edit(served, **labels):
        """Polls an edited models.config; returns {label: the version that answers, None: number of those served}."""
        policy = "".join(f"versions: {number} " for number in served)
        text = "".join(f'version_labels {{ key: "{label}" value: {labels[label]} }} ' for label in labels)
        text = f'name: "spy" model_version_policy {{ specific {{ {policy} }} }} {text}'
        config.write_text(f"model_config_list {{ config {{ {text} }} }}")
        versions.poll()
        answers = {None: len(versions._served)}
        for label in labels:
            with versions.use("spy", label=label) as (_, version):
                answers[label] = version.predict("", _INPUTS)["version"].item()
            assert [status.version for status in versions.status("spy", label=label)] == [answers[label]]
        return answers

    assert edit([1], stable=1) == {None: 1, "stable": 1}
    for _ in range(2):  # The label and its version in one edit are refused at every poll.
        assert edit([1, 2], stable=2) == {None: 1, "stable": 1}
        assert "label stable: version 2 is not available" in capfd.readouterr().err
    # First the version, and then the label; a new label may come with its version.
    assert edit([1, 2], stable=1, canary=2) == {None: 2, "stable": 1, "canary": 2}
    assert edit([2], stable=2) == {None: 1, "stable": 2}
    versions.close()


def test_versions_come_fail_and_go_while_requests_run(start_stand_in, tmp_path):
    _write_spy(tmp_path / "1", answer=1)
    server = start_stand_in(tmp_path, "--poll_seconds=0.05")
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(server.predict("", _INPUTS)["version"].item())

    def write_with_failing_warm_up(folder):
        _write_spy(folder, answer=3, minimum=7)
        _write_warm_up(folder, 8, 5)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            server.publish(2, functools.partial(_write_spy, answer=2))
            server.wait_for({2: "AVAILABLE", 1: "END"})
            with pytest.raises(grpc.RpcError) as error:
                server.predict("", _INPUTS, version=1)
            assert error.value.code().name == "NOT_FOUND"
            # A version that cannot be loaded is shown in the status; the one before stays in service.
            server.publish(3, write_with_failing_warm_up)
            server.wait_for({3: "END", 2: "AVAILABLE", 1: "END"})
            told = server.status()[0]["status"]
            assert told["error_code"] == "INVALID_ARGUMENT" and "value: too small" in told["error_message"]
            # Back to the first: the newer ones are removed.
            for number in ("3", "2"):
                (tmp_path / number).rename(tmp_path / f"{number}.gone")
            server.wait_for({3: "END", 2: "END", 1: "AVAILABLE"})
            assert server.predict("", _INPUTS)["version"].item() == 1
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert set(answers) == {1, 2}
