"""The stages of a VQ-VAE-2: an autoencoder, then the priors of its codes."""

import dataclasses

import numpy as np
import pytest

import nvae_tf
from nvae_tf.config import Config, ConfigError, DataConfig, TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config
from nvae_tf.data.image_set import from_array
from nvae_tf.runs import prepare as prepare_run
from nvae_tf.runs.interruption import Interruption
from nvae_tf.runs.prior_training import codes_of

MODEL = VQVAE2Config(
    image_height=16,
    image_width=16,
    image_channels=1,
    likelihood="bernoulli",
    channels=8,
    residual_channels=4,
    code_size=4,
    num_codes=8,
    prior_channels=16,
    prior_residual_channels=4,
    prior_kernel_size=3,
    prior_blocks=1,
    prior_residual_blocks=1,
    condition_channels=4,
    condition_blocks=1,
)


def _config(**train):
    fields = {"batch_size": 64, "epochs": 1, "max_steps": 3, "image_epochs": 0, "eval_epochs": 0, "ema_decay": 0.9}
    return Config(MODEL, DataConfig(binarize=True), TrainConfig(**(fields | {"optimizer": "adam"} | train)))


@pytest.fixture(scope="module")
def autoencoder_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder")
    prepare_run.prepare(_config(stage="autoencoder"), folder, None, Interruption()).run()
    return folder


def test_priors_are_trained_on_the_codes_of_a_run_and_resume_without_it(autoencoder_run, tmp_path):
    config = _config(stage="prior", autoencoder_run=str(autoencoder_run))
    run = prepare_run.prepare(config, tmp_path, None, Interruption())
    before = [variable.numpy() for variable in run.model.priors[0].trainable_variables]
    run.run()
    priors, autoencoder = nvae_tf.load_run(tmp_path), nvae_tf.load_run(autoencoder_run)
    assert (priors.stage, priors.averaged, autoencoder.stage, len(autoencoder.priors)) == (
        "prior",
        True,
        "autoencoder",
        0,
    )
    for ours, theirs in zip(priors.autoencoder.variables, autoencoder.autoencoder.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    assert all(np.any(v.numpy() != old) for v, old in zip(priors.priors[0].trainable_variables, before, strict=True))
    resumed = dataclasses.replace(config, train=dataclasses.replace(config.train, autoencoder_run="gone"))
    again = prepare_run.prepare(resumed, tmp_path, None, Interruption())
    assert again.trainer.step == 3


def test_codes_are_those_of_the_model_and_a_damaged_image_has_those_of_the_next(autoencoder_run):
    model, images = nvae_tf.load_run(autoencoder_run), np.random.default_rng(0).integers(0, 2, (5, 16, 16, 1), np.uint8)
    damaged = dataclasses.replace(from_array(255 * images), damaged=np.array([1, 4]))
    codes = codes_of(model, damaged, dataclasses.replace(model.config, data=DataConfig()))
    latents = model(images.astype(np.float32)).latents
    expected = np.concatenate([np.reshape(latent, [5, -1]) for latent in latents], axis=1)
    np.testing.assert_array_equal(codes, expected[[0, 2, 2, 3, 0]])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stage": "last"}, r"train\.stage: expected one of .*\. Received: 'last'"),
        ({"stage": "prior"}, r"train\.autoencoder_run: expected the folder of a run with stage 'prior'\. Received: ''"),
        ({"autoencoder_run": "runs/a"}, r"train\.autoencoder_run: expected '' with stage 'joint'\. Received: 'runs/a'"),
    ],
)
def test_stages_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        _config(**change).validate()


def test_another_family_or_flipped_images_have_no_stages():
    train = TrainConfig(stage="prior", autoencoder_run="runs/a")
    with pytest.raises(ConfigError, match=r"train\.stage: expected one of \('joint',\) with model\.family 'nvae'"):
        Config(train=train).validate()
    with pytest.raises(ConfigError, match=r"data\.horizontal_flip: expected False with train\.stage 'prior'"):
        Config(MODEL, DataConfig(horizontal_flip=True), train).validate()


def test_a_run_with_another_autoencoder_is_refused(autoencoder_run, digits_run, tmp_path):
    config = _config(stage="prior", autoencoder_run=str(autoencoder_run))
    config.model = dataclasses.replace(MODEL, num_codes=16)
    with pytest.raises(ConfigError, match=r"train\.autoencoder_run: expected a run with model\.num_codes 16\. .* 8"):
        prepare_run.prepare(config, tmp_path, None, Interruption())
    config = _config(stage="prior", autoencoder_run=str(digits_run))
    with pytest.raises(ConfigError, match=r"expected a run with model\.family 'vqvae2'\. Received: .*, with 'nvae'"):
        prepare_run.prepare(config, tmp_path, None, Interruption())
