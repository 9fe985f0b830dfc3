"""A tiny trainer that the tests of this folder share, because tracing its step takes most of the time."""

import keras
import pytest
import tensorflow as tf

from nvae_tf.config import DataConfig, TrainConfig
from nvae_tf.data.batches import train_batches
from nvae_tf.data.datasets import dataset_info
from nvae_tf.data.image_set import in_memory
from nvae_tf.data.splits import open_images
from nvae_tf.models.nvae import NVAE
from nvae_tf.training.trainer import Trainer, configure_runtime
from tests import tiny

BATCH_SIZE = 16
STEPS_PER_EPOCH = 10


def _model(**overrides):
    keras.utils.set_random_seed(0)
    return NVAE(tiny.model_config(**({"groups_per_scale": 1, "num_flows": 1} | overrides)), name="nvae")


def _train_config(**overrides):
    fields = {"batch_size": BATCH_SIZE, "epochs": 10, "warmup_epochs": 1.0, "log_steps": 4}
    return TrainConfig(**(fields | overrides))


@pytest.fixture(scope="session")
def make_model():
    """Function that makes a tiny `NVAE` with a flow on 16 x 16 images; keywords override fields of its config."""
    return _model


@pytest.fixture(scope="session")
def train_config():
    """Function that makes a `TrainConfig`; keywords override fields."""
    return _train_config


@pytest.fixture(scope="session")
def digits():
    """Batches of the digits: 60 arrays [16, 16, 16, 1] of zeros and ones."""
    images = in_memory(open_images(dataset_info("digits"), None, "train"))
    batches = train_batches(images, DataConfig(dataset="digits", binarize=True), 8, BATCH_SIZE, seed=0)
    return [batch.numpy() for (batch,) in batches.take(60)]


@pytest.fixture(scope="session")
def state_of():
    """Function that copies the state of a trainer: {(part, path): array}."""

    def copy(trainer):
        variables = [(part, v) for part, layer in trainer.state.items() for v in layer.variables]
        return {(part, variable.path): variable.numpy().copy() for part, variable in variables}

    return copy


@pytest.fixture(scope="session")
def restore_state():
    """Function that gives a trainer the state that `state_of` copied."""

    def restore(trainer, state):
        for part, layer in trainer.state.items():
            for variable in layer.variables:
                variable.assign(state[part, variable.path])

    return restore


@pytest.fixture(scope="session")
def _shared_trainer(state_of):
    configure_runtime()
    trainer = Trainer(_model(), _train_config(), STEPS_PER_EPOCH)
    yield trainer, state_of(trainer)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture
def trainer(_shared_trainer, restore_state):
    """The shared `Trainer`, reset to its initial state. Only the first use traces its step."""
    trainer, initial = _shared_trainer
    restore_state(trainer, initial)
    trainer.step = 0
    trainer.last_step = trainer.total_steps
    trainer.config.max_nonfinite_steps, trainer.config.recovery_learning_rate = 20, 0.0
    return trainer
