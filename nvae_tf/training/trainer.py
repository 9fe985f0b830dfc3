"""The training loop: one `tf.function` over `strategy.run`, and callbacks between steps."""

import math

import tensorflow as tf

from nvae_tf.layers.conv import initializing_from_data
from nvae_tf.models.nvae import draw_noise
from nvae_tf.objectives.kl import kl_weight
from nvae_tf.objectives.regularizers import regularization_weight
from nvae_tf.training.schedule import learning_rate
from nvae_tf.training.step import TrainingStep

_NOISE = 7  # keeps the noise of the latents apart from the other streams of the run's seed
_TERMS = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message holds the step, the terms and what helps."""

    def __init__(self, step, report):
        terms = ", ".join(f"{name} {float(report[name]):.6g}" for name in _TERMS)
        super().__init__(
            f"The loss is not finite at step {step}: {terms}. What helps: a larger train.regularization, "
            "train.initial_regularization (lambda annealed from a larger value), a smaller train.learning_rate."
        )


def configure_runtime():
    """Sets the options of TensorFlow's graphs that pay in training; call before the first step.

    The graph is made of few, large ops already: the meta optimizer (grappler) takes longer than it saves.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class Trainer:
    """Trains a model step by step, every step a function of (state, batch, seed, step number).

    Args:
        model: built `NVAE`.
        config: `TrainConfig`.
        steps_per_epoch: steps of an epoch; with `config.epochs` it sets the schedules.
        strategy: `tf.distribute.Strategy` in whose scope the model was made; the current one if None.

    Attributes:
        step: steps done.
        last_step: where the run ends.
        state: {part: Keras layer or model} whose variables are the state of the run.
    """

    def __init__(self, model, config, steps_per_epoch, strategy=None):
        self.model = model
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = config.epochs * steps_per_epoch
        self.last_step = min(self.total_steps, config.max_steps or self.total_steps)
        self.step = 0
        self._strategy = strategy or tf.distribute.get_strategy()
        if self._strategy.num_replicas_in_sync != 1:
            raise ValueError(
                f"strategy: expected one replica. Received: {self._strategy.num_replicas_in_sync} "
                "(batch statistics and gradients are not yet shared between replicas)"
            )
        with self._strategy.scope():
            self._training_step = TrainingStep(model, config)
        self.state = {
            "model": model,
            "optimizer": self._training_step.optimizer,
            "spectral": self._training_step.spectral,
        }
        self._function = tf.function(self._distributed_step, autograph=False)

    def _schedules(self, step):
        config = self.config
        weight = kl_weight(
            step, self.total_steps, config.kl_anneal_fraction, config.kl_constant_fraction, config.kl_min_weight
        )
        return {
            "kl_weight": weight,
            "regularization": regularization_weight(weight, config.regularization, config.initial_regularization),
            "learning_rate": learning_rate(step, self.steps_per_epoch, config),
        }

    def _noise(self, batch_size, step):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant([self.config.seed, _NOISE], tf.int64)
        for counter in (step, replica):
            seed = tf.random.fold_in(seed, tf.cast(counter, tf.int64), alg="philox")
        return draw_noise(self.model.noise_shapes(batch_size), seed)

    def _replica_step(self, images, step):
        schedules = self._schedules(step)
        noise = self._noise(tf.shape(images)[0], step)
        return {**schedules, **self._training_step.update(images, noise, **schedules)}

    def _distributed_step(self, images, step):
        return self._strategy.run(self._replica_step, args=(images, step))

    def advance(self, images):
        """One step on images [B, H, W, C] in [0, 1]; returns a dict of the terms (tensors).

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        if self.step == 0:
            self._initialize_from(images)
        report = self._function(images, tf.constant(self.step, tf.int64))
        self.step += 1
        if not math.isfinite(float(report["loss"])):
            raise NonFiniteLossError(self.step, report)
        return report

    def _initialize_from(self, images):
        """Sets what depends on the first batch (cell set `res_elu`)."""
        if any(conv.data_dependent for conv in self.model.convolutions):
            with initializing_from_data():
                self.model(images, noise=self._noise(tf.shape(images)[0], -1))

    def run(self, batches, callbacks=()):
        """Steps until `last_step`.

        Args:
            batches: iterable of images [B, H, W, C], the first of them that of step `self.step`.
            callbacks: objects with `on_step(trainer, report)`, called after every step, and `on_epoch(trainer,
                epoch)`, called after every whole epoch and at the end.
        """
        batches = iter(batches)
        while self.step < self.last_step:
            report = self.advance(next(batches))
            for callback in callbacks:
                callback.on_step(self, report)
            if self.step % self.steps_per_epoch == 0 or self.step == self.last_step:
                for callback in callbacks:
                    callback.on_epoch(self, math.ceil(self.step / self.steps_per_epoch))
