import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf import NVAE
from tests.processes import run

# How a user loads a model: the package only needs to be imported after Keras.
_LOAD_AND_RUN = """
import sys
import keras, numpy as np
import nvae_tf
data = np.load(sys.argv[2])
model = keras.models.load_model(sys.argv[1])
noise = [data[f"noise_{i}"] for i in range(len(data.files) - 1)]
output = model(data["images"], noise=noise)
np.savez(sys.argv[3], params=output.likelihood_params, kl=output.kl_per_group, prior=model.generate(noise))
"""


def _paths(model):
    """Paths without the name of the model, which depends on how many were created before."""
    return [variable.path.removeprefix(f"{model.name}/") for variable in model.variables]


def _assert_same_variables(one, other):
    assert _paths(one) == _paths(other)
    differ = [v.path for v, w in zip(one.variables, other.variables, strict=True) if not np.array_equal(v, w)]
    assert not differ


def test_config_round_trip(flow_model):
    config = flow_model.get_config()
    again = NVAE.from_config(config)
    assert again.get_config() == config
    assert again.model_config == flow_model.model_config
    shapes = [(variable.path, tuple(variable.shape)) for variable in flow_model.variables]
    assert [(variable.path, tuple(variable.shape)) for variable in again.variables] == shapes


@pytest.mark.parametrize("name", ["model", "flow_model"])
def test_a_keras_file_restores_every_variable(request, tmp_path, name):
    model = request.getfixturevalue(name)
    model.save(tmp_path / "model.keras")
    _assert_same_variables(model, keras.models.load_model(tmp_path / "model.keras"))


def test_a_checkpoint_restores_every_variable(flow_model, tmp_path):
    path = tf.train.Checkpoint(model=flow_model).save(tmp_path / "checkpoint")
    other = NVAE(flow_model.model_config)
    tf.train.Checkpoint(model=other).restore(path).assert_existing_objects_matched()
    _assert_same_variables(flow_model, other)


def test_a_saved_model_gives_equal_outputs_in_a_new_process(flow_model, draw, tmp_path):
    images, noise = draw(flow_model, 2)
    flow_model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", images=images, **{f"noise_{i}": eps for i, eps in enumerate(noise)})
    files = [str(tmp_path / name) for name in ("model.keras", "inputs.npz", "outputs.npz")]
    (tmp_path / "load.py").write_text(_LOAD_AND_RUN)
    status, text = run(tmp_path / "load.py", *files)
    assert status == 0, text
    outputs = np.load(files[-1])
    expected = flow_model(images, noise=noise)
    np.testing.assert_allclose(outputs["params"], expected.likelihood_params, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["kl"], expected.kl_per_group, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(outputs["prior"], flow_model.generate(noise), rtol=1e-5, atol=1e-5)
