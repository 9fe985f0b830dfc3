import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.checkpoint import CheckpointError, RunFolder, model_variables
from nvae_tf.config import Config, ModelConfig


def _part(**values):
    return {name: tf.Variable(value, dtype=tf.float32) for name, value in values.items()}


def test_config_is_written_once(tmp_path):
    first = Config(model=ModelConfig(latent_channels=3))
    folder = RunFolder(tmp_path / "deep" / "run").create(first)
    assert RunFolder(folder.path).create(Config()).config == first


def test_error_without_config_names_the_folder(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path}: expected a run folder with config.json"):
        _ = RunFolder(tmp_path).config


def test_values_are_restored_by_name(folder):
    names = ["a/b.c/kernel", "a.Sb", "plain"]
    stored = {name: tf.Variable([float(i), 7.0]) for i, name in enumerate(names)}
    counter = {"step": tf.Variable(12, dtype=tf.int64)}
    folder.save(5, {"model": stored, "optimizer": counter})
    # In another order, because names matter and positions do not.
    fresh = {name: keras.Variable([0.0, 0.0]) for name in reversed(names)}
    assert folder.restore({"model": fresh}) == 5
    for name in names:
        np.testing.assert_array_equal(fresh[name], stored[name])
    other = {"step": tf.Variable(0, dtype=tf.int64)}
    folder.restore({"optimizer": other})
    assert other["step"].numpy() == 12


def test_same_step_is_replaced(folder):
    for value in (1, 2):
        folder.save(3, {"model": _part(w=value)})
    fresh = _part(w=0)
    folder.restore({"model": fresh})
    assert fresh["w"].numpy() == 2
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step_00000003"]


@pytest.mark.parametrize(
    "keep, expected", [(1, [[10], [20], [30], [15]]), (2, [[10], [10, 20], [20, 30], [15, 30]]), (9, None)]
)
def test_rotation_keeps_the_last_and_always_the_new_one(folder, keep, expected):
    seen = []
    for step in (10, 20, 30, 15):
        folder.save(step, {"model": _part(w=0)}, keep=keep)
        seen.append(folder.steps())
    assert seen == (expected or [[10], [10, 20], [10, 20, 30], [10, 15, 20, 30]])


def test_mismatch_lists_the_names_on_each_side(folder):
    folder.save(1, {"model": _part(both=0, **{"old/kernel": 0}, shape=[1.0, 2.0]), "optimizer": _part(m=0)})
    wanted = {**_part(both=5, **{"new/kernel": 0}), "shape": tf.Variable([1.0])}
    with pytest.raises(CheckpointError) as caught:
        folder.restore({"model": wanted})
    message = str(caught.value)
    assert str(folder.path) in message and "step_00000001" in message and "part 'model'" in message
    assert "1 missing in the checkpoint: new/kernel" in message
    assert "1 only in the checkpoint: old/kernel" in message
    assert "shape (checkpoint ((2,), 'float32'), expected ((1,), 'float32'))" in message
    assert "optimizer" not in message
    assert wanted["both"].numpy() == 5  # nothing was assigned


def test_mismatch_of_type_and_missing_part(folder):
    folder.save(1, {"model": _part(w=0)})
    with pytest.raises(CheckpointError, match="1 of another shape or type: w"):
        folder.restore({"model": {"w": tf.Variable(0, dtype=tf.int64)}})
    with pytest.raises(CheckpointError, match="part 'optimizer'.*\n.*1 missing in the checkpoint: m"):
        folder.restore({"model": _part(w=0), "optimizer": _part(m=0)})


def test_model_variables_cover_the_model_and_do_not_depend_on_its_name():
    def make():
        layers = [keras.layers.Dense(3, name="d"), keras.layers.BatchNormalization(name="n")]
        return keras.Sequential([keras.Input((2,)), *layers])

    one, two = make(), make()
    assert one.name != two.name
    assert list(model_variables(one)) == list(model_variables(two))
    assert [id(v) for v in model_variables(one).values()] == [id(v) for v in one.variables]
    assert "d/kernel" in model_variables(one) and "n/moving_mean" in model_variables(one)


def test_model_variables_refuse_paths_that_collide():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="d"), keras.layers.Dense(2, name="e")])
    model.layers[1].kernel._path = "d/kernel"
    with pytest.raises(ValueError, match="Received twice: 'd/kernel'"):
        model_variables(model)
