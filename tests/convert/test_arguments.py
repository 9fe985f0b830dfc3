"""Official arguments give a `Config`, or an error that names the argument."""

import math

import pytest

from nvae_tf.config import CELL_SETS, Config, DataConfig, ModelConfig, TrainConfig
from nvae_tf.convert.arguments import config_from_arguments
from nvae_tf.convert.torch_reader import ConversionError, read_checkpoint

# The published MNIST run (paper, appendix A, table 6).
MNIST = {"dataset": "mnist", "batch_size": 200, "epochs": 400, "arch_instance": "res_mbconv", "num_x_bits": 8}
MNIST |= {"num_latent_scales": 2, "num_groups_per_scale": 10, "ada_groups": True, "min_groups_per_scale": 1}
MNIST |= {"num_latent_per_group": 20, "num_nf": 0, "num_mixture_dec": 10, "use_se": True, "res_dist": True}
MNIST |= {"num_channels_enc": 32, "num_preprocess_blocks": 2, "num_preprocess_cells": 3, "num_cell_per_cond_enc": 2}
MNIST |= {"num_channels_dec": 32, "num_postprocess_blocks": 2, "num_postprocess_cells": 3, "num_cell_per_cond_dec": 2}


def changed(**changes):
    return {**MNIST, **changes}


def without(*names):
    return {name: value for name, value in MNIST.items() if name not in names}


def assert_refused(arguments, *parts):
    """Asserts that an error names the expected and received values and contains every part."""
    with pytest.raises(ConversionError) as caught:
        config_from_arguments(arguments)
    for part in ("expected", "Received: ", *parts):
        assert part in str(caught.value)


def test_published_mnist():
    assert config_from_arguments(MNIST) == Config(
        model=ModelConfig(padding=2, adaptive_groups=True),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(batch_size=200),
    )


def read_golden(golden, name):
    pytest.importorskip("torch", reason="torch is an optional extra, needed only to convert; CI installs it")
    return config_from_arguments(read_checkpoint(golden / f"{name}.checkpoint.pt").arguments)


SMALL = {"groups_per_scale": 4, "adaptive_groups": True, "preprocess_cells": 2, "postprocess_cells": 2}
SMALL |= {"encoder_cells_per_group": 1, "decoder_cells_per_group": 1}


def test_golden_trained_mnist(golden):
    assert read_golden(golden, "mnist_small_trained") == Config(
        model=ModelConfig(padding=2, latent_channels=8, encoder_channels=8, decoder_channels=8, **SMALL),
        data=DataConfig(dataset="mnist", binarize=True),
        train=TrainConfig(batch_size=64, epochs=5, warmup_epochs=1.0),
    )


def test_golden_celeba64(golden):
    image = {"image_height": 64, "image_width": 64, "image_channels": 3, "likelihood": "logistic_mixture"}
    widths = {"latent_channels": 4, "encoder_channels": 4, "decoder_channels": 4}
    numbers = {"bit_depth": 5, "num_scales": 3, "min_groups_per_scale": 2, "num_flows": 2}
    blocks = {"preprocess_blocks": 1, "postprocess_blocks": 1}
    config = read_golden(golden, "celeba64_tiny_5bit")
    assert config.model == ModelConfig(**image, **widths, **numbers, **blocks, **SMALL)
    assert config.data == DataConfig(dataset="celeba64", horizontal_flip=True)


def test_golden_cifar10(golden):
    config = read_golden(golden, "cifar10_tiny_flow")
    assert (config.model.num_scales, config.model.groups_per_scale, config.model.num_flows) == (1, 3, 1)
    assert (config.model.adaptive_groups, config.model.likelihood) == (False, "logistic_mixture")
    assert config.data == DataConfig(dataset="cifar10", horizontal_flip=True)


@pytest.mark.parametrize(
    "official, ours, size, channels, padding",
    [
        ("mnist", "mnist", 32, 1, 2),
        ("omniglot", "omniglot", 32, 1, 2),
        ("stacked_mnist", "stacked_mnist", 32, 3, 2),
        ("cifar10", "cifar10", 32, 3, 0),
        ("imagenet_32", "imagenet32", 32, 3, 0),
        ("imagenet_64", "imagenet64", 64, 3, 0),
        ("celeba_64", "celeba64", 64, 3, 0),
        ("celeba_256", "celeba_hq256", 256, 3, 0),
        ("ffhq", "ffhq256", 256, 3, 0),
        ("lsun_church_64", "lsun_church64", 64, 3, 0),
        ("lsun_church_128", "lsun_church128", 128, 3, 0),
        ("lsun_bedroom_128", "lsun_bedroom128", 128, 3, 0),
        ("lsun_bedroom_256", "lsun_bedroom256", 256, 3, 0),
    ],
)
def test_every_dataset(official, ours, size, channels, padding):
    config = config_from_arguments(changed(dataset=official))
    model = config.model
    assert (model.image_height, model.image_width) == (size, size)
    assert (model.image_channels, model.padding) == (channels, padding)
    assert model.likelihood == ("bernoulli" if channels == 1 else "logistic_mixture")
    is_photo = channels == 3 and not padding
    assert config.data == DataConfig(dataset=ours, binarize=channels == 1, horizontal_flip=is_photo)
    one = config_from_arguments(changed(dataset=official, num_mixture_dec=1)).model
    assert (one.likelihood, one.num_mixtures) == ("bernoulli" if channels == 1 else "normal", 1)


@pytest.mark.parametrize("dataset", ["digits", "MNIST", "celeba64", "lsun__128", "lsun_128", "lsun_tower_256", "", 3])
def test_unknown_dataset(dataset):
    assert_refused(changed(dataset=dataset), "args.dataset", repr(dataset))


def test_old_file():
    arguments = without("ada_groups", "min_groups_per_scale", "num_mixture_dec", "arch_instance")
    model = config_from_arguments({**arguments, "dataset": "cifar10"}).model
    assert (model.adaptive_groups, model.min_groups_per_scale, model.num_mixtures) == (False, 1, 10)
    assert (model.cell_set, model.likelihood) == ("res_mbconv", "logistic_mixture")


OLD = {"ada_groups", "min_groups_per_scale", "num_mixture_dec", "arch_instance", "batch_size", "epochs"}


@pytest.mark.parametrize("name", sorted(set(MNIST) - OLD))
def test_arguments_that_old_files_had_are_required(name):
    assert_refused(without(name), f"args.{name}", "no such argument")


@pytest.mark.parametrize(
    "official, ours, value",
    [
        ("batch_size", "batch_size", 4),
        ("epochs", "epochs", 45),
        ("learning_rate", "learning_rate", 8e-3),
        ("learning_rate_min", "min_learning_rate", 2e-4),
        ("warmup_epochs", "warmup_epochs", 1),
        ("weight_decay", "weight_decay", 1e-4),
        ("kl_anneal_portion", "kl_anneal_fraction", 0.4),
        ("kl_const_portion", "kl_constant_fraction", 0.01),
        ("kl_const_coeff", "kl_min_weight", 0.001),
        ("weight_decay_norm", "regularization", 0.1),
    ],
)
def test_training_arguments(official, ours, value):
    train = config_from_arguments(changed(**{official: value})).train
    assert train == TrainConfig(**{"batch_size": 200, ours: value})


def test_annealed_lambda():
    annealed = {"weight_decay_norm": 0.1, "weight_decay_norm_init": 1.0, "weight_decay_norm_anneal": True}
    train = config_from_arguments(changed(**annealed)).train
    assert (train.regularization, train.initial_regularization) == (0.1, 1.0)
    constant = config_from_arguments(changed(weight_decay_norm=0.1, weight_decay_norm_init=10.0)).train
    assert (constant.regularization, constant.initial_regularization) == (0.1, 0.0)
    for name in ("weight_decay_norm", "weight_decay_norm_init"):
        assert_refused(changed(**(annealed | {name: 0.0})), f"args.{name}: ", "positive", "0.0")
    del annealed["weight_decay_norm_init"]
    assert_refused(changed(**annealed), "args.weight_decay_norm_init", "no such argument")


WRONG = [("num_nf", 1.0), ("num_nf", True), ("num_nf", -1), ("num_nf", None), ("num_x_bits", 9), ("epochs", 0)]
WRONG += [("num_channels_enc", 10**9), ("num_latent_scales", 2**5000), ("num_latent_scales", 0)]
WRONG += [("num_mixture_dec", 0), ("use_se", 1), ("res_dist", "False"), ("ada_groups", None), ("arch_instance", None)]
WRONG += [("learning_rate", "0.01"), ("learning_rate", math.nan), ("learning_rate", 2**5000)]
WRONG += [("warmup_epochs", True), ("kl_anneal_portion", 0.0), ("batch_size", 2.5)]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_value_names_the_argument(number):
    name, value = WRONG[number]
    assert_refused(changed(**{name: value}), f"args.{name}")


def test_contradictions():
    assert_refused(changed(num_postprocess_blocks=1), "args.num_postprocess_blocks", "preprocess_blocks = 2")
    assert_refused(changed(num_latent_scales=5), "args.num_latent_scales", "image_height", "a multiple of 64")
    assert_refused(changed(num_latent_scales=4096), "args.num_latent_scales")
    narrow = changed(arch_instance="mbconv_den", num_channels_dec=12)
    assert_refused(narrow, "args.num_channels_dec", "a multiple of 8")


def test_arguments_about_where_the_original_ran_are_ignored():
    ran = {"data": "/data", "root": "", "seed": 1, "num_proc_node": 4, "num_process_per_node": 8, "distributed": True}
    ran |= {"fast_adamax": True, "local_rank": 3, "master_address": "127.0.0.1", "cont_training": True}
    assert config_from_arguments(changed(**ran)) == config_from_arguments(MNIST)


@pytest.mark.parametrize("name, value", [("use_attention", True), ("num_classes", 10), ("res_scale", [0.5])])
def test_unsupported_model_argument(name, value):
    assert_refused(changed(**{name: value}), f"args.{name}", repr(value))
    # If it is switched off, it cannot have changed the model.
    for off in (None, False, 0, ""):
        assert config_from_arguments(changed(**{name: off})) == config_from_arguments(MNIST)


def test_argument_names_are_text():
    assert_refused({**MNIST, 3: 4}, "3")


def test_cell_sets():
    for cell_set in CELL_SETS:
        assert config_from_arguments(changed(arch_instance=cell_set)).model.cell_set == cell_set
    # The original lists res_mbconv9 but cannot build it.
    assert_refused(changed(arch_instance="res_mbconv9"), "args.arch_instance", "'res_mbconv9'", "res_mbconv")
