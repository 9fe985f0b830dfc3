"""Every file of configs/ loads, is valid, names its command, and can be overridden by flags."""

import pathlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from nvae_tf import hierarchy
from nvae_tf.config import Config, config_from_dict, config_to_dict

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))

# name: epochs, batch per replica, replicas, width, groups from the finest scale, pre- and postprocess blocks and
# cells, flows, first and last lambda, warm-up epochs, bits, learning rate (arXiv 2007.03898, appendix A).
PUBLISHED = {
    "mnist": (400, 200, 2, 32, (10, 5), 2, 3, 0, 1e-2, 1e-2, 5, 8, 1e-2),
    "cifar10": (400, 32, 8, 128, (30,), 1, 2, 1, 1e-2, 1e-2, 5, 8, 1e-2),
    "celeba64": (90, 16, 8, 64, (20, 10, 5), 1, 2, 1, 1e-1, 1e-1, 5, 8, 1e-2),
    "imagenet32": (45, 24, 24, 192, (28,), 1, 2, 1, 1.0, 1e-2, 1, 8, 1e-2),
    "celeba_hq256": (300, 4, 24, 30, (16, 8, 4, 4, 4), 1, 2, 2, 1.0, 1e-2, 5, 5, 1e-2),
    "ffhq256": (200, 4, 24, 30, (16, 8, 4, 4, 4), 1, 2, 2, 1.0, 1e-1, 5, 5, 8e-3),
}

# Configurations of the models that NVAE is compared with; see nvae_tf/baselines.
BASELINES = {
    *("biva_cifar10", "biva_digits", "biva_mnist", "biva_mnist_small"),
    *("iaf_vae_cifar10", "iaf_vae_digits", "iaf_vae_mnist"),
    *("vqvae2_cifar10", "vqvae2_digits", "vqvae2_mnist"),
}


@pytest.fixture
def parse(monkeypatch):
    """Function that returns the config a program sees when started with --config=NAME and more arguments."""

    def run(name, *arguments):
        command = ["train.py", f"--config={CONFIGS / name}.py", *arguments]
        # config_flags reads overrides from sys.argv, not from its arguments.
        monkeypatch.setattr(sys, "argv", command)
        values = flags.FlagValues()
        holder = config_flags.DEFINE_config_file("config", flag_values=values)
        values(command)
        return holder.value

    return run


def test_the_configs_are_those_expected():
    assert set(NAMES) == {*PUBLISHED, *BASELINES, "mnist_small", "digits", "emoji", "folder"}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_valid_and_survives_json(name, shipped_config):
    config = shipped_config(name)["get_config"]()
    assert isinstance(config, Config)
    assert config.validate() == config_from_dict(config_to_dict(config))


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_holds_the_command_that_runs_its_own_file(name, shipped_config):
    commands = [line.strip() for line in shipped_config(name)["__doc__"].splitlines() if "tools/" in line]
    expected = f"python tools/train.py --config=configs/{name}.py --run_dir=runs/{name}"
    assert commands == [expected if name.endswith("digits") else f"{expected} --data_dir=DIR"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_holds_the_published_numbers(name, shipped_config):
    module = shipped_config(name)
    config = module["get_config"]()
    model, train = config.model, config.train
    epochs, batch, replicas, width, groups, blocks, cells, flows, first, last, warmup, bits, rate = PUBLISHED[name]
    assert (train.epochs, train.batch_size) == (epochs, batch)
    assert f"{replicas} GPUs" in module["__doc__"]
    assert model.encoder_channels == model.decoder_channels == width
    assert hierarchy.groups_per_scale(model)[::-1] == groups
    assert model.preprocess_blocks == model.postprocess_blocks == blocks
    assert model.preprocess_cells == model.postprocess_cells == cells
    assert (model.num_flows, model.bit_depth, model.latent_channels) == (flows, bits, 20)
    assert model.encoder_cells_per_group == model.decoder_cells_per_group == 2
    assert model.squeeze_excite and model.residual_posterior and model.cell_set == "res_mbconv"
    assert (train.initial_regularization or train.regularization, train.regularization) == (first, last)
    assert (train.warmup_epochs, train.learning_rate, train.weight_decay) == (warmup, rate, 3e-4)
    assert (train.kl_anneal_fraction, train.kl_constant_fraction) == (0.3, 1e-4)
    photos = name != "mnist"
    assert config.data.horizontal_flip is photos and config.data.binarize is not photos
    assert model.likelihood == ("logistic_mixture" if photos else "bernoulli")
    assert model.padding == (0 if photos else 2)


def test_the_small_mnist_config_holds_the_reference_run(shipped_config):
    config = shipped_config("mnist_small")["get_config"]()
    model, train = config.model, config.train
    assert hierarchy.groups_per_scale(model)[::-1] == (4, 2)
    assert model.latent_channels == model.encoder_channels == model.decoder_channels == 8
    assert (model.preprocess_blocks, model.preprocess_cells) == (2, 2)
    assert (model.postprocess_blocks, model.postprocess_cells) == (2, 2)
    assert (model.encoder_cells_per_group, model.decoder_cells_per_group, model.num_flows) == (1, 1, 0)
    assert (train.batch_size, train.epochs, train.warmup_epochs, train.max_steps) == (64, 5, 1, 2811)
    assert (train.learning_rate, train.regularization, train.weight_decay) == (1e-2, 1e-2, 3e-4)
    assert train.initial_regularization == 0 and train.convolution_dtype == "float32"
    assert model.padding == 2 and config.data.binarize


def test_flags_override_fields_with_their_types(parse, shipped_config):
    config = parse(
        "digits", "--config.train.epochs=7", "--config.train.learning_rate=1", "--config.data.binarize=false"
    )
    assert config.train.epochs == 7
    assert config.train.learning_rate == 1.0 and isinstance(config.train.learning_rate, float)
    assert config.data.binarize is False
    untouched = shipped_config("digits")["get_config"]()
    assert config.model == untouched.model and config.train.batch_size == untouched.train.batch_size
