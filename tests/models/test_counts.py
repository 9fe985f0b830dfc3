"""Parameters, convolutions and batch norms of the published models (arXiv 2007.03898, table 6)."""

import importlib.util
import math
import pathlib

import pytest

from nvae_tf.models.nvae import shapes_only

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def _model_config(name):
    spec = importlib.util.spec_from_file_location(f"configs_{name}", CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().model


@pytest.mark.parametrize(
    "name, parameters, convolutions, batch_norms",
    [
        ("mnist", 33_363_134, 255, 214),
        ("cifar10", 130_852_480, 610, 364),
        ("celeba64", 153_281_364, 730, 436),
        ("imagenet32", 268_509_444, 570, 340),
        ("celeba_hq256", 330_798_664, 986, 460),
    ],
)
def test_published_counts(name, parameters, convolutions, batch_norms):
    # Variables have shapes but no values, so this takes only seconds and no memory.
    model = shapes_only(_model_config(name))
    trainable = model.trainable_variables
    assert sum(math.prod(variable.shape) for variable in trainable) == parameters
    assert (len(model.convolutions), len(model.batch_norms)) == (convolutions, batch_norms)
    assert sum(len(one.layers) for one in model.kernel_stacks) == convolutions
    assert len({variable.path for variable in model.variables}) == len(model.variables)


def test_ffhq_has_the_model_of_celeba_hq():
    assert _model_config("ffhq256") == _model_config("celeba_hq256")
