"""Parameters, convolutions and batch norms of the published models (arXiv 2007.03898, table 6)."""

import math

import pytest

from nvae_tf.models.nvae import shapes_only


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
def test_published_counts(shipped_config, name, parameters, convolutions, batch_norms):
    # Variables have shapes but no values, so this takes only seconds and no memory.
    model = shapes_only(shipped_config(name)["get_config"]().model)
    trainable = model.trainable_variables
    assert sum(math.prod(variable.shape) for variable in trainable) == parameters
    assert (len(model.convolutions), len(model.batch_norms)) == (convolutions, batch_norms)
    assert sum(len(one.layers) for one in model.kernel_stacks) == convolutions
    assert len({variable.path for variable in model.variables}) == len(model.variables)


def test_ffhq_has_the_model_of_celeba_hq(shipped_config):
    ffhq, celeba_hq = (shipped_config(name)["get_config"]() for name in ("ffhq256", "celeba_hq256"))
    assert ffhq.model == celeba_hq.model
