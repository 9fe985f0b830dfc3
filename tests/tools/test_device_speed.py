"""Every runtime draws the same image, and each is timed."""

from nvae_tf.config import Config, ModelConfig
from tools.device_speed import COMPILED, GENERATE, ONNX, SAVED_MODEL, TFLITE, device_speed

_ONE_GROUP = ModelConfig(
    image_height=4,
    image_width=8,
    num_scales=1,
    groups_per_scale=1,
    latent_channels=2,
    encoder_channels=3,
    decoder_channels=3,
    preprocess_blocks=0,
    postprocess_blocks=0,
)


def test_every_runtime_is_timed():
    seconds = device_speed(Config(model=_ONE_GROUP), count=2)
    assert set(seconds) == {TFLITE, ONNX, SAVED_MODEL, COMPILED, GENERATE}
    assert min(seconds.values()) > 0
