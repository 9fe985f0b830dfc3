"""tools/check_export.py: what it prints, and its exit status."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2


class _Double(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def call(self, x):
        return {"y": 2 * x}


@pytest.fixture
def base_path(tmp_path):
    """Base path of a SavedModel of one signature with a warm-up request, version 1."""
    module, version = _Double(), tmp_path / "double" / "1"
    tf.saved_model.save(module, str(version), signatures=module.call)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(1, np.float32)))
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    return version.parent


@pytest.fixture
def run(program, capsys):
    """Function from arguments to (exit status, printed text, printed errors)."""

    def call(*arguments, flags=()):
        with pytest.raises(SystemExit) as stop:
            program("check_export", *flags).main([*map(str, arguments)])
        return stop.value.code, *capsys.readouterr()

    return call


def test_passed(run, base_path):
    """The newest version of a base path; what does not apply is no failure."""
    status, text, errors = run(base_path)
    assert (status, errors) == (0, "")
    lines = text.splitlines()
    assert lines[0] == f"checking: {base_path / '1'}"
    assert [line.split()[:3] for line in lines if " executes " in line] == [["passed", "executes", "loaded"]]
    assert [line.split()[2] for line in lines if line.startswith("not checked")][0] == "checksums"
    assert lines[-1] == "16 checks, 0 failed"


def test_failed(run, base_path):
    """A finding comes with the reason of its rule."""
    (base_path / "1" / "assets.extra" / "tf_serving_warmup_requests").unlink()
    (base_path / "models.config").write_text("name")
    status, text, _ = run(base_path / "1")
    assert status == 1
    assert (
        "failed      warm_up              expected assets.extra/tf_serving_warmup_requests\n  What was not run" in text
    )
    assert "failed      models_config        models.config: 1:1" in text
    assert text.endswith("16 checks, 2 failed\n")


def test_without_running(run, base_path):
    status, text, _ = run(base_path, flags=["--noexecute"])
    assert status == 0
    assert "not checked executes             not asked for" in text


def test_not_a_saved_model(run, base_path, tmp_path):
    (base_path / "1" / "saved_model.pb").write_bytes(b"\xff" * 100)
    status, text, errors = run(base_path)
    assert status == 2
    assert errors.startswith(
        f"check_export.py: {base_path / '1' / 'saved_model.pb'}: expected the protobuf of a SavedModel"
    )
    status, _, errors = run(tmp_path / "nothing")
    assert (status, errors.count("Received: no such folder")) == (2, 1)


@pytest.mark.parametrize("arguments", [(), ("a", "b")], ids=["none", "two"])
def test_one_folder(run, arguments):
    status, _, errors = run(*arguments)
    assert (status, errors.count("expected one folder")) == (2, 1)
