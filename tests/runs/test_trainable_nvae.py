"""Keras's verbs: the same training as tools/train.py, files, exports, several devices."""

import json
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import nvae_tf
from nvae_tf.config import ConfigError, DataConfig
from nvae_tf.data.batches import train_batches
from nvae_tf.export.saved_model import export as saved_model
from nvae_tf.export.saved_model.check.lint import RuleResult
from nvae_tf.training.trainer import Trainer
from tests import tiny

TRAIN = nvae_tf.TrainConfig(batch_size=4, ema_decay=0.9)
EPOCHS, STEPS = 2, 25
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1)).astype(np.uint8)


def _model():
    keras.utils.set_random_seed(0)
    return nvae_tf.NVAE(tiny.model_config(12, padding=2, num_scales=1))


def _batches():
    """Endless batches, as tools/train.py makes them."""
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)])
    return train_batches(padded, DataConfig(binarize=True), 8, TRAIN.batch_size, seed=0)


class Losses(keras.callbacks.Callback):
    """The loss of each step, from the means since the start of the epoch that Keras's callbacks get."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        done = self.values[len(self.values) - batch :] if batch else []
        self.values.append(logs["loss"] * (batch + 1) - sum(done))


@pytest.fixture(scope="module", autouse=True)
def _options():
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})  # `fit` disables it


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model, its losses and its log folder. No test may change it."""
    model, losses, logs = _model(), Losses(), tmp_path_factory.mktemp("logs")
    with pytest.warns(UserWarning, match="binarize: expected True with the Bernoulli likelihood"):
        model.compile(TRAIN)
    callbacks = [losses, keras.callbacks.TensorBoard(logs), keras.callbacks.EarlyStopping(patience=9)]
    data = {"validation_data": (IMAGES, None), "steps_per_epoch": STEPS}
    model.fit(_batches(), epochs=EPOCHS, callbacks=callbacks, verbose=0, **data)
    return model, losses.values, logs


def test_fit_takes_the_steps_of_the_trainer(trained):
    model, losses, _ = trained
    other, config = _model(), nvae_tf.TrainConfig(batch_size=4, ema_decay=0.9, epochs=EPOCHS, warmup_epochs=0.4)
    trainer = Trainer(other, config, STEPS)
    expected = [float(trainer.advance(*shards)["loss"]) for shards in _batches().take(EPOCHS * STEPS)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    trainer.average.apply()
    for variable, same in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(variable, same, rtol=1e-4, atol=1e-5, err_msg=variable.path)
    assert model.averaged


def test_metrics(trained):
    model, losses, logs = trained
    history = model.history.history
    names = ["loss", "nelbo", "reconstruction", "kl", "bits_per_dim"]
    assert set(history) == {*names, *(f"val_{name}" for name in names)} and list(model.metrics_names) == names
    np.testing.assert_allclose(history["loss"], np.reshape(losses, [EPOCHS, STEPS]).mean(axis=1), rtol=1e-6)
    values = dict(zip(names, model.evaluate(IMAGES, verbose=0), strict=True))
    for name, value in values.items():
        np.testing.assert_allclose(history[f"val_{name}"][-1], value, rtol=1e-6)
    np.testing.assert_allclose(values["nelbo"], values["reconstruction"] + values["kl"])
    np.testing.assert_allclose(values["bits_per_dim"], values["nelbo"] / (64 * np.log(2.0)))
    assert history["val_nelbo"][1] < history["val_nelbo"][0] and values["loss"] == values["nelbo"]
    assert list(logs.glob("train/*")) and list(logs.glob("validation/*"))


def test_a_keras_file_gives_a_compiled_model(trained, tmp_path):
    model, _, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is nvae_tf.NVAE and loaded.compiled and loaded.config == model.config
    assert loaded.evaluate(IMAGES, verbose=0) == model.evaluate(IMAGES, verbose=0)


def test_images_of_any_form_give_the_same_results(trained):
    model, _, _ = trained
    expected = model.predict(IMAGES, verbose=0)
    assert expected.shape == IMAGES.shape and expected.dtype == np.float32 and 0 < expected.min() < expected.max() < 1
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)])
    result = model.predict(padded, verbose=0)
    np.testing.assert_allclose(result, np.pad(expected, [(0, 0), (2, 2), (2, 2), (0, 0)]), atol=1e-5)
    labelled = tf.data.Dataset.from_tensor_slices((IMAGES / 255.0, np.zeros(30)))
    for images in (IMAGES.astype(np.float32) / 255.0, labelled, labelled.batch(7)):
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def test_loaded_run_is_compiled_and_exports_with_its_origin(digits_run, monkeypatch, tmp_path):
    origins, target = [], "nvae_tf.export.saved_model.export.export_saved_model"
    monkeypatch.setattr(target, lambda model, folder, origin, **options: (folder, origins.append(origin)))
    model = nvae_tf.load_run(digits_run)
    assert type(model) is nvae_tf.NVAE and model.compiled and model.config.data.dataset == "digits"
    assert model.export(tmp_path / "export", temperature=0.7) == tmp_path / "export"
    tf.config.experimental.enable_tensor_float_32_execution(True)
    _model().export(tmp_path / "export")
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    assert origins[0]["run"]["step"] == 3 and origins[0]["dataset"] == "digits"
    assert origins[1]["run"] is origins[1]["dataset"] is origins[1]["evaluation"] is None


def test_only_an_untrained_model_is_initialised_from_data(digits_run, monkeypatch, tmp_path):
    seen, report = [], dict.fromkeys(("loss", "reconstruction", "kl"), 1.0)
    monkeypatch.setattr(Trainer, "advance", lambda trainer, *shards: seen.append(trainer.initializes) or report)
    model = _model()
    model.compile(TRAIN)
    for _ in range(2):
        model.fit(IMAGES, steps_per_epoch=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(IMAGES, steps_per_epoch=1, verbose=0)
    run = nvae_tf.load_run(digits_run)
    run.fit(np.zeros([64, 16, 16, 1]), steps_per_epoch=1, verbose=0)
    assert seen == [True, False, False, False] and run.restored_step is None


def test_refusals(monkeypatch):
    model = _model()
    with pytest.raises(ValueError, match="fit: expected a compiled model"):
        model.fit(IMAGES)
    with pytest.raises(ConfigError, match="config: expected a TrainConfig. Received: 'adam'"):
        model.compile("adam")
    with pytest.raises(ConfigError, match="train.batch_size"):
        model.compile(nvae_tf.TrainConfig(batch_size=0))
    model.compile(nvae_tf.TrainConfig(batch_size=31))
    with pytest.raises(ValueError, match="at most 30, the number of training images"):
        model.fit(IMAGES)
    with pytest.raises(ValueError, match="steps_per_epoch: expected a number"):
        model.fit(_batches())
    data = tf.data.Dataset.from_tensor_slices(IMAGES).batch(2)
    with pytest.raises(ValueError, match="Received: an endless one"):
        model.predict(data.repeat())
    with pytest.raises(ValueError, match="expected at least 31"):
        model.fit(data, steps_per_epoch=1)
    monkeypatch.setattr(model, "_train", None)
    with pytest.raises(ValueError, match="Received: an endless one"):
        model.fit(data.repeat(), steps_per_epoch=1, validation_data=data.repeat())
    with pytest.raises(ConfigError, match="train.epochs"):
        model.fit(IMAGES, epochs=0)
    with pytest.raises(ValueError, match="expected shape"):
        model.predict(IMAGES[:, 1:])
    several = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    monkeypatch.setattr(nvae_tf.NVAE, "distribute_strategy", several)
    with pytest.raises(ValueError, match="tools/train.py trains on several machines"):
        model.compile(TRAIN)


@pytest.mark.slow
def test_two_devices(tmp_path, two_replicas):
    with two_replicas.scope():
        model = _model()
    model.compile(TRAIN, binarize=True)
    history = model.fit(tf.data.Dataset.from_tensor_slices(IMAGES).batch(7), epochs=2, verbose=0).history
    assert len(history["loss"]) == 2 and np.all(np.isfinite(history["loss"]))
    for variable in model.trainable_variables:
        one, other = (copy.numpy() for copy in two_replicas.experimental_local_results(variable.value))
        np.testing.assert_array_equal(one, other, err_msg=variable.path)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(IMAGES, verbose=0), model.evaluate(IMAGES, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)


@pytest.mark.slow
def test_example_of_the_docstring(monkeypatch, tmp_path):
    example = textwrap.dedent(nvae_tf.NVAE.__doc__.split("Example:\n")[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nvae_tf, "ModelConfig", tiny.model_config)  # a smaller model
    # The checks are tested separately, and tests/export runs them on an export.
    checks = [RuleResult("executes", "", "passed")]
    monkeypatch.setattr(saved_model, "lint_saved_model", lambda folder, published: checks)
    images = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1)).astype(np.uint8)
    names = {"images": images, "test_images": images[:10]}
    exec(example, names)
    assert set(names["metrics"]) == set(nvae_tf.NVAE.metrics_names)
    assert names["reconstructions"].shape == (10, 28, 28, 1)
    card = json.loads((tmp_path / "saved_model" / "1" / "assets.extra" / "model.json").read_text())
    assert card["run"] is None and card["model"]["padding"] == 2
