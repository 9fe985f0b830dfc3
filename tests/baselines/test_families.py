"""What every model family must meet: training, resuming, replicas, half precision, saving, evaluation, sampling."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from nvae_tf.config import BIVAConfig, Config, ConfigError, DataConfig, IAFVAEConfig, TrainConfig, VQVAE2Config
from nvae_tf.data.batches import train_batches
from nvae_tf.evaluation.latents import decode_latents, encode
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import reconstruct, sample_images
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting
from nvae_tf.runs import prepare as prepare_run
from nvae_tf.runs.families import model_class
from nvae_tf.runs.interruption import Interruption
from nvae_tf.runs.load import load_folded, load_run
from nvae_tf.training.callbacks import Callback
from nvae_tf.training.trainer import Trainer
from tests import tiny

_IMAGE = {"image_height": 16, "image_width": 16, "image_channels": 1, "likelihood": "bernoulli"}
_TRAIN = {"batch_size": 8, "epochs": 1, "schedule": "constant", "warmup_epochs": 0.0, "weight_decay": 0.0}
_TRAIN |= {"kl_min_weight": 1.0, "learning_rate": 1e-3, "epsilon": 1e-8, "ema_decay": 0.9, "ema_warmup": False}
# (tiny model, optimiser)
_FAMILIES = {
    "iaf_vae": (
        IAFVAEConfig(**_IMAGE, num_levels=2, layers_per_level=1, channels=8, latent_channels=4, free_bits=0.05),
        "adamax_uncorrected",
    ),
    "biva": (
        BIVAConfig(
            **_IMAGE,
            channels=8,
            kernel_sizes=((3,), (3,)),
            downsampled_stages=(1, 2),
            latent_sizes=(4, 3),
            head_kernel_sizes=(3, 0),
        ),
        "adamax",
    ),
    "vqvae2": (
        VQVAE2Config(
            **_IMAGE,
            channels=8,
            residual_channels=4,
            residual_blocks=1,
            code_size=4,
            num_codes=8,
            prior_channels=16,
            prior_residual_channels=8,
            prior_kernel_size=3,
            prior_blocks=1,
            prior_residual_blocks=1,
            condition_channels=8,
            condition_blocks=1,
        ),
        "adam",
    ),
}


@pytest.fixture(scope="module", params=_FAMILIES)
def config(request):
    """`Config` of a tiny model of each family, on the digits."""
    model, optimizer = _FAMILIES[request.param]
    data = DataConfig(dataset="digits", binarize=True)
    return Config(model, data, TrainConfig(**_TRAIN, optimizer=optimizer)).validate()


class _Keep(Callback):
    """Saves the run at step 2 and keeps a copy of its folder, as a process leaves it that is killed later."""

    def __init__(self, run, folder):
        self._run, self._folder, self.losses = run, folder, []

    def on_step(self, trainer, report):
        self.losses.append(float(report["loss"]))
        if trainer.step == 2:
            self._run.save()
            shutil.copytree(self._run.folder.path, self._folder)


def _trained(config, folder, copy=None):
    """A `TrainingRun` after step 4, which it saves, and the losses of its steps."""
    keras.backend.clear_session()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=4))
    run = prepare_run.prepare(config, folder, None, Interruption())
    keep = _Keep(run, copy)
    run.train([keep])
    run.save()
    return run, keep.losses


def _state(trainer, strategy=None):
    """{name: array} of the state of a trainer, which must be the same on every replica."""
    state, strategy = {}, strategy or tf.distribute.get_strategy()
    for part, layer in trainer.state.items():
        for variable in layer.variables:
            name = part, variable.path.partition("/")[2]
            first, *others = (copy.numpy() for copy in strategy.experimental_local_results(variable.value))
            assert all(np.array_equal(first, other) for other in others), name
            state[name] = first
    return state


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """(run after step 4, losses of its steps, copy of its folder at step 2)."""
    folder = tmp_path_factory.mktemp(config.model.family)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_run, "configure_runtime", lambda: None)  # it would change the whole process
        yield *_trained(config, folder / "run", folder / "killed"), folder / "killed"


def test_training_moves_the_weights_and_resumes_bit_for_bit(config, trained):
    run, losses, killed = trained
    resumed, later = _trained(config, killed)
    assert np.all(np.isfinite(losses)) and later == losses[2:]
    whole, again = _state(run.trainer), _state(resumed.trainer)
    assert set(whole) == set(again)
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=str(name))
    moved = [np.any(value) for (part, path), value in whole.items() if part == "optimizer" and "m_" in path]
    assert np.mean(moved) > 0.9  # some weights have no gradient in some families


def test_another_family_does_not_resume_the_run(config, trained):
    nvae = dataclasses.replace(config, model=tiny.model_config())
    with pytest.raises(ConfigError, match=f"^model.family: expected '{config.model.family}', .* Received: 'nvae'$"):
        prepare_run.prepare(nvae, trained[0].folder.path, None, Interruption())


def test_a_loaded_run_evaluates_and_samples(config, trained):
    run, _, _ = trained
    model = load_folded(run.folder.path)
    assert (model.config.model, model.restored_step, model.averaged) == (config.model, 4, True)
    images = next(iter(run.held_out_batches(6))).numpy()
    result = evaluate(model, [images], num_samples=4)
    assert result.nll_bound <= result.nelbo + 1e-6 and result.num_outputs == 256
    assert len(result.kl_per_group) == len(result.active_units) == len(model.noise_shapes(1))
    np.testing.assert_allclose(sum(result.kl_per_group), result.kl, rtol=1e-6)
    samples = sample_images(model, 5, temperature=0.8, seed=1, batch_size=4)
    assert samples.shape == (5, 16, 16, 1) and np.all((samples >= 0) & (samples <= 1))
    # An image depends on the seed and its number only.
    np.testing.assert_allclose(sample_images(model, 4, 0.8, seed=1, batch_size=4, first=3)[:2], samples[3:], atol=1e-5)
    reconstructions = reconstruct(model, images)
    encoded = encode(model, images, np.arange(6))
    np.testing.assert_allclose(decode_latents(model, encoded.latents)[0], reconstructions, atol=1e-5)


def test_a_loaded_run_has_the_average_and_survives_a_keras_file(config, trained, tmp_path):
    run, _, _ = trained
    model = load_run(run.folder.path)
    averages = {name: value for (part, name), value in _state(run.trainer).items() if part == "ema"}
    assert averages.keys() == {variable.path.partition("/")[2] for variable in model.trainable_variables}
    for variable in model.trainable_variables:
        np.testing.assert_array_equal(variable, averages[variable.path.partition("/")[2]], err_msg=variable.path)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and loaded.model_config == config.model
    images = next(iter(run.held_out_batches(2)))
    expected, received = (one(images, seed=1) for one in (model, loaded))
    np.testing.assert_array_equal(received.likelihood_params, expected.likelihood_params)
    np.testing.assert_array_equal(received.kl_per_channel, expected.kl_per_channel)


def _start_and_step(config, strategy, images, noise):
    """The report of one step that follows the start from data, and the state after it; without dropout."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        trainer = Trainer(model_class(config.model)(config.model, name="model"), config.train, 10, strategy)
    step, count = trainer._training_step, strategy.num_replicas_in_sync

    def share(array):
        parts = np.split(array, count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def run(images, noise):
        with setting(INITIALIZING_FROM_DATA, True):
            step.model(images, noise=noise, training=True)
        return step.update(images, noise, 1.0, 0.0, 1e-3)

    function = tf.function(lambda *args: strategy.run(run, args=args), autograph=False)
    report = function(share(images), [share(eps) for eps in noise])
    report = {name: strategy.experimental_local_results(value)[0].numpy() for name, value in report.items()}
    return report, _state(trainer, strategy)


def test_two_replicas_start_and_step_as_one_with_twice_the_batch(config, trained, two_replicas):
    rng = np.random.default_rng(0)
    # No two patches are the same, as those of a digit's background are: rounding would choose between equal codes.
    shape = next(iter(trained[0].held_out_batches(8))).shape
    images = rng.integers(0, 2, shape).astype(np.float32)
    noise = [rng.normal(size=shape).astype(np.float32) for shape in trained[0].trainer.model.noise_shapes(8)]
    strategies = tf.distribute.get_strategy(), two_replicas
    one, two = (_start_and_step(config, strategy, images, noise) for strategy in strategies)
    assert set(one[0]) == set(two[0]) and set(one[1]) == set(two[1])
    for name, expected in one[0].items():
        np.testing.assert_allclose(two[0][name], expected, rtol=1e-4, atol=1e-4, err_msg=name)
    for (part, name), expected in one[1].items():
        # The first step of a weight with a gradient near 0 may have either sign.
        atol = 1e-4 * max(np.abs(expected).max(), 1e-3) + (2.1e-3 if part in ("model", "ema") else 0.0)
        np.testing.assert_allclose(two[1][part, name], expected, rtol=1e-3, atol=atol, err_msg=f"{part} {name}")


def test_half_precision_trains(config, trained):
    run, losses, _ = trained
    train, data = dataclasses.replace(config.train, precision="mixed_bfloat16"), config.data
    (images,) = next(iter(train_batches(run.train_images, data, 8, train.batch_size, train.seed)))
    keras.utils.set_random_seed(train.seed)
    trainer = Trainer(model_class(config.model)(config.model, name="model"), train, 10)
    report = trainer.advance(images)
    assert report["num_nonfinite"] == 0
    # The weights and numbers of the float32 run, but for the rounding of activations.
    np.testing.assert_allclose(report["loss"], losses[0], rtol=0.02)
    assert float(report["loss"]) != losses[0]


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("export", "--format=tflite --out={out}", "--run_dir: expected model.family 'nvae'"),
        ("export", "--format=weights --out={out}", "--run_dir: expected model.family 'nvae'"),
        ("interpolate", "--seeds=1,2 --out={out}.png", "--run_dir: expected model.family 'nvae'"),
        ("traverse", "--seeds=1 --group=0 --out={out}.png", "--run_dir: expected model.family 'nvae'"),
        ("readjust_bn", "", "--run_dir: expected model.family 'nvae'"),
        ("sample", "--bn_temperature=0.7 --out={out}.png", "batch_norm_temperature: expected model.family 'nvae'"),
        ("fid", "--bn_temperature=0.7 --inception={run}/config.json", "--bn_temperature: expected model.family 'nvae'"),
    ],
)
def test_what_a_family_lacks_is_refused(trained, program, tmp_path, name, arguments, message):
    run_dir, out = trained[0].folder.path, tmp_path / "out"
    module = program(name, f"--run_dir={run_dir}", *arguments.format(out=out, run=run_dir).split())
    with pytest.raises(ValueError, match=message):
        module.main()
    assert not list(tmp_path.iterdir())


def test_a_report_shows_what_the_family_has(trained, program, tmp_path):
    folder, path = trained[0].folder.path, tmp_path / "report.html"
    evaluation = {"kl_per_group": [1.5] * len(trained[0].model.noise_shapes(1)), "split": "test", "step": 4}
    (folder / "evaluation.json").write_text(json.dumps(evaluation | {"active_units": evaluation["kl_per_group"]}))
    flags = ("--num=4", "--temperature=1.0", "--num_reconstructions=2", f"--out={path}")
    program("report", *flags).main([str(folder)])
    page = path.read_text()
    assert "Temperature 1" in page and "Reconstructions" in page and "share of the KL" in page
    assert "interpolation" not in page.lower().replace("reconstructions and interpolations", "")
    assert "batch-norm statistics" not in page
