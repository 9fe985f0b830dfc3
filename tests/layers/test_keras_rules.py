"""Keras's own test of a layer: configuration, shapes, a training step, mixed precision."""

import pytest
from keras.src.testing import TestCase

from nvae_tf.baselines.weight_norm import NormConv2D, NormConv2DTranspose, NormDense
from nvae_tf.layers.cells import Cell, EluConv, InvertedResidual, NormEluConv, NormSwishConv, Resampling
from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.layer import Layer
from nvae_tf.layers.masked_conv import MaskedConv2D
from nvae_tf.layers.norm import BatchNorm
from nvae_tf.layers.resample import BilinearUpsample, FactorizedDownsample
from nvae_tf.layers.squeeze_excite import SqueezeExcite
from nvae_tf.models.decoder import Decoder
from nvae_tf.models.encoder import Encoder
from nvae_tf.models.flow import AutoregressiveNet, FlowStep
from nvae_tf.models.latent_group import Combiner, LatentGroup
from nvae_tf.models.model_part import ModelPart
from tests import tiny

DOWN, UP = Resampling.DOWN, Resampling.UP
OPERATIONS = [["InvertedResidual", {"expansion": 3, "kernel_size": 5}], ["NormEluConv", {}]]
SHAPE = (2, 4, 4, 4)
# Layer, arguments, shape of the output.
LAYERS = [
    (Conv2D, {"filters": 3, "kernel_size": 3, "strides": 2}, (2, 2, 2, 3)),
    (MaskedConv2D, {"filters": 4, "kernel_size": 3, "strict": True, "groups": "depthwise"}, (2, 4, 4, 4)),
    (BatchNorm, {"count_factor": 4}, (2, 4, 4, 4)),
    (SqueezeExcite, {}, (2, 1, 1, 4)),
    (FactorizedDownsample, {"filters": 6}, (2, 2, 2, 6)),
    (BilinearUpsample, {"filters": 3}, (2, 8, 8, 3)),
    (NormSwishConv, {"filters": 3, "resampling": UP, "dilation": 2}, (2, 8, 8, 3)),
    (NormEluConv, {"filters": 3, "resampling": DOWN}, (2, 2, 2, 3)),
    (EluConv, {"filters": 3}, (2, 4, 4, 3)),
    (InvertedResidual, {"filters": 3, "resampling": DOWN, "expansion": 3, "kernel_size": 5}, (2, 2, 2, 3)),
    (Cell, {"operations": OPERATIONS, "filters": 4, "resampling": UP}, (2, 8, 8, 4)),
    (AutoregressiveNet, {"latent_channels": 4, "mirrored": True}, (2, 4, 4, 4)),
    (FlowStep, {"latent_channels": 4}, (2, 4, 4, 4)),
    (Combiner, {"filters": 3}, (2, 4, 4, 3)),
    (NormDense, {"filters": 3, "rule": "biva"}, (2, 4, 4, 3)),
    (NormConv2D, {"filters": 3, "kernel_size": (2, 3), "rule": "pixelsnail", "strides": 2}, (2, 2, 2, 3)),
    (NormConv2DTranspose, {"filters": 3, "kernel_size": 5, "rule": "iaf_vae"}, (2, 8, 8, 3)),
]

CONFIG = tiny.model_config(8, image_channels=4)
PARTS = [(Encoder, {}, (2, 8, 8, 4)), (Decoder, {}, None), (LatentGroup, {"index": 1}, None)]


@pytest.mark.parametrize("layer, arguments, output_shape", LAYERS, ids=[layer.__name__ for layer, *_ in LAYERS])
def test_layer(layer, arguments, output_shape):
    TestCase().run_layer_test(layer, arguments, input_shape=SHAPE, expected_output_shape=output_shape)


@pytest.mark.parametrize("layer, arguments, shape", PARTS)
def test_part_of_the_model(layer, arguments, shape):
    # Decoder and LatentGroup have several passes instead of a call; without a shape Keras tests the configuration.
    TestCase().run_layer_test(layer, {"config": CONFIG, **arguments}, input_shape=shape, run_training_check=False)
    part = layer(CONFIG, **arguments)
    assert layer.from_config(part.get_config()).model_config == CONFIG


def test_every_layer_of_nvae_is_tested():
    layers, bases = set(), [Layer]
    while bases:
        bases += (found := bases.pop().__subclasses__())
        layers |= {
            layer.__name__ for layer in found if layer.__module__.startswith(("nvae_tf.layers.", "nvae_tf.models."))
        }
    tested = {layer.__name__ for layer, *_ in LAYERS + PARTS}
    assert {name for name in layers if not name.startswith("_")} - {ModelPart.__name__} <= tested
