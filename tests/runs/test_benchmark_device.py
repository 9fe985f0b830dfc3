"""Every runtime draws the same image, and each is timed."""

from nvae_tf.config import Config
from nvae_tf.runs.benchmark_device import COMPILED, GENERATE, ONNX, SAVED_MODEL, TFLITE, device_speed
from tests.tools.one_group import ONE_GROUP


def test_every_runtime_is_timed():
    seconds = device_speed(Config(model=ONE_GROUP), count=2)
    assert set(seconds) == {TFLITE, ONNX, SAVED_MODEL, COMPILED, GENERATE}
    assert min(seconds.values()) > 0
