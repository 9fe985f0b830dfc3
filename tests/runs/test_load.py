import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import nvae_tf
from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.config import Config, ConfigError, ModelConfig

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

_DUMP = """
import sys
import numpy as np
import nvae_tf
from nvae_tf.checkpoint import model_variables

model = nvae_tf.load_run(sys.argv[1])
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in model_variables(model).items()})
"""


def _python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def config():
    model = ModelConfig(
        image_height=8,
        image_width=8,
        groups_per_scale=2,
        latent_channels=2,
        encoder_channels=4,
        decoder_channels=4,
        preprocess_blocks=1,
        preprocess_cells=1,
        postprocess_blocks=1,
        postprocess_cells=1,
        encoder_cells_per_group=1,
        decoder_cells_per_group=1,
        num_flows=1,
    )
    return Config(model=model)


@pytest.fixture(scope="module")
def model(config):
    """A model in which every variable, statistics included, differs from its initial value."""
    model = nvae_tf.NVAE(config.model)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + rng.random(variable.shape, np.float32))
    return model


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, config, model):
    folder = RunFolder(tmp_path_factory.mktemp("run")).create(config)
    folder.save(7, {"model": model_variables(model)})
    return folder.path


def test_every_variable_survives_into_another_process(run_dir, model, tmp_path):
    _python("-c", _DUMP, str(run_dir), str(tmp_path / "values.npz"))
    with np.load(tmp_path / "values.npz") as values:
        expected = model_variables(model)
        assert set(values.files) == set(expected)
        assert any(name.endswith("moving_variance") for name in expected)
        for name, variable in expected.items():
            np.testing.assert_array_equal(values[name], variable, err_msg=name)


def test_the_loaded_model_knows_its_config_and_computes_the_same(run_dir, config, model):
    loaded = nvae_tf.load_run(run_dir, step=7)
    assert loaded.config == config and loaded.model_config == config.model
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(loaded(images, seed=0).likelihood_params, model(images, seed=0).likelihood_params)


def test_errors_come_before_the_model_is_built(tmp_path, config, monkeypatch):
    monkeypatch.setattr("nvae_tf.runs.load.NVAE", None)
    with pytest.raises(CheckpointError, match="config.json"):
        nvae_tf.load_run(tmp_path)
    RunFolder(tmp_path).create(config)
    with pytest.raises(CheckpointError, match="at least one checkpoint"):
        nvae_tf.load_run(tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"depth": 3}}')
    with pytest.raises(ConfigError, match="depth"):
        nvae_tf.load_run(tmp_path)


def test_another_models_weights_are_refused(run_dir, config, tmp_path):
    wider = Config(model=ModelConfig(**{**nvae_tf.config.config_to_dict(config.model), "latent_channels": 3}))
    RunFolder(tmp_path).create(wider)
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").symlink_to(run_dir / "checkpoints")
    with pytest.raises(CheckpointError, match="of another shape or type: .*decoder/group_0/posterior_head/kernel"):
        nvae_tf.load_run(tmp_path)


def test_configurations_do_not_import_tensorflow():
    code = "import sys, nvae_tf, nvae_tf.config; assert nvae_tf.__version__; print('tensorflow' in sys.modules)"
    assert _python("-c", code).stdout.strip() == "False"


def test_the_package_offers_its_names_and_no_others():
    assert set(nvae_tf.__all__) == {"NVAE", "NVAEOutput", "load_run", "__version__"}
    for name in nvae_tf.__all__:
        assert getattr(nvae_tf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nvae_tf.nonsense


def test_a_run_with_an_average_is_loaded_with_it_unless_told_otherwise(config, model, tmp_path):
    folder = RunFolder(tmp_path / "run").create(config)
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


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(config, model, tmp_path):
    folder = RunFolder(tmp_path / "run").create(config)
    for step in (5, 9):
        folder.save(step, {"model": model_variables(model)})
    (folder.checkpoints / "step_00000009" / "state.index").write_bytes(b"damaged")
    assert nvae_tf.load_run(folder.path).restored_step == 5
    with pytest.raises(CheckpointError, match="step_00000009"):
        nvae_tf.load_run(folder.path, step=9)


def test_a_run_without_an_average_has_none(config, model, tmp_path):
    folder = RunFolder(tmp_path / "run").create(config)
    folder.save(5, {"model": model_variables(model)})
    assert not nvae_tf.load_run(folder.path).averaged
