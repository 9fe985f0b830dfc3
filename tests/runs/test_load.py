"""Loading the model of a run, including one from an earlier version."""

import json
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf

import nvae_tf
from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.config import Config, ConfigError
from nvae_tf.runs import prepare as prepare_run
from nvae_tf.runs.interruption import Interruption
from tests import tiny


@pytest.fixture(scope="module")
def model():
    """A model in which every variable, including statistics, differs from its initial value."""
    return tiny.model(num_flows=1)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run folder of `model` at step 3. No test may write to it."""
    return tiny.write_run(tmp_path_factory.mktemp("run"), num_flows=1)


def test_loaded_model_knows_its_config_and_has_every_variable(run_dir, model):
    loaded = nvae_tf.load_run(run_dir, step=3)
    assert loaded.config == RunFolder(run_dir).config and loaded.model_config == model.model_config
    assert loaded.restored_step == 3 and not loaded.averaged
    expected, received = model_variables(model), model_variables(loaded)
    assert set(received) == set(expected) and any(name.endswith("moving_variance") for name in expected)
    for name, variable in expected.items():
        np.testing.assert_array_equal(received[name], variable, err_msg=name)
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    np.testing.assert_array_equal(loaded(images, seed=0).likelihood_params, model(images, seed=0).likelihood_params)


def test_errors_come_before_the_model_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.TrainableNVAE", None)
    with pytest.raises(CheckpointError, match="config.json"):
        nvae_tf.load_run(tmp_path)
    RunFolder(tmp_path).create(Config())
    with pytest.raises(CheckpointError, match="at least one checkpoint"):
        nvae_tf.load_run(tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"depth": 3}}')
    with pytest.raises(ConfigError, match="depth"):
        nvae_tf.load_run(tmp_path)


def test_package_offers_its_names_and_imports_tensorflow_only_for_them():
    code = "import sys, nvae_tf, nvae_tf.config; assert nvae_tf.__version__; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert all(getattr(nvae_tf, name) is not None for name in nvae_tf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nvae_tf.nonsense


def test_average_of_the_weights_is_loaded_by_default(model, tmp_path):
    folder = RunFolder(tmp_path / "run").create(Config(model=model.model_config))
    variables = model_variables(model)
    averages = {name: tf.Variable(variable.value + 1.0) for name, variable in variables.items() if variable.trainable}
    folder.save(5, {"model": variables, "ema": averages})
    averaged, plain = nvae_tf.load_run(folder.path), nvae_tf.load_run(folder.path, average=False)
    assert averaged.averaged and not plain.averaged
    for name, variable in model_variables(averaged).items():
        # Running statistics are averages already.
        np.testing.assert_array_equal(variable, averages.get(name, variables[name].value), err_msg=name)
    for name, variable in model_variables(plain).items():
        np.testing.assert_array_equal(variable, variables[name], err_msg=name)


def test_run_of_an_earlier_version_is_loaded_and_resumed(tmp_path, monkeypatch):
    """Two more steps give the figures of the earlier version for the same steps; see tests/goldens/README.md."""
    with tarfile.open(pathlib.Path(__file__).parents[1] / "goldens" / "old_run.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    loaded = nvae_tf.load_run(tmp_path)
    assert loaded.restored_step == 2 and loaded.averaged
    monkeypatch.setattr(prepare_run, "configure_runtime", lambda: None)  # a setting of the whole process
    config = RunFolder(tmp_path).config
    config.train.max_steps, config.train.image_epochs = 4, 0
    assert config.data.split_rule == "permutation"
    config.data.split_rule = "name"  # as in a configuration file of today
    prepare_run.prepare(config, tmp_path, None, Interruption()).run()
    before, after = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (before["step"], after["step"], after["split"]) == (2, 4, "test")
    expected = {"nelbo": 190.61496975272894, "kl": 7.839949153363705, "reconstruction": 182.77502059936523}
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(after["kl_per_group"], [4.7303639352321625, 3.109585218131542], rtol=1e-3)
