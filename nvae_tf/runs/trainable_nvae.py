"""The model with the verbs of Keras: compile, fit, evaluate, predict, save and export."""

import collections
import contextlib
import dataclasses
import itertools
import math
import pathlib
import warnings

import keras
import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.config import Config, ConfigError, DataConfig, TrainConfig, config_from_dict, config_to_dict
from nvae_tf.data import batches
from nvae_tf.data.given_images import given_images, number_of
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import reconstruct
from nvae_tf.inference.model import refold
from nvae_tf.layers.replicas import pad_rows, round_up
from nvae_tf.models.nvae import NVAE
from nvae_tf.training.trainer import Trainer, configure_runtime


# Named as in the .keras files of earlier versions.
@keras.saving.register_keras_serializable(package="nvae_tf", name="NVAE")
class TrainableNVAE(NVAE):
    """`nvae_tf.NVAE`: an `NVAE` with the verbs of Keras.

    `fit` takes the steps of tools/train.py on one device or, if the model is created in the scope of a
    `tf.distribute.MirroredStrategy`, on several. `keras.models.load_model` returns this class, compiled, if `nvae_tf`
    is imported after Keras or TensorFlow; otherwise `nvae_tf.NVAE` must be named once before.

    Images are arrays [N, H, W, C], or [N, H, W] for one channel, or a `tf.data.Dataset` of batches [N, H, W, C], of
    single images or of tuples whose first part they are; uint8, or floats in [0, 1], rounded to 8 bits; with or
    without the model's padding.

    Args:
        config: `ModelConfig`, or a dict of its fields.

    Attributes:
        metrics_names: `loss` (in training with the weighted KL and the regularisers, else the NELBO), `nelbo`,
            `reconstruction` (-log p(x | z)) and `kl`, all in nats, and `bits_per_dim` (of the NELBO).
        config: `Config` of the run that the model was loaded from, or with which it was compiled.
        run_dir, batch_norm_temperature: arguments of the `load_run` that returned the model, else None.

    Example:

        import keras
        import nvae_tf

        config = nvae_tf.ModelConfig(image_height=32, image_width=32, image_channels=1, padding=2)
        model = nvae_tf.NVAE(config)
        model.compile(nvae_tf.TrainConfig(batch_size=64), binarize=True)
        model.fit(images, epochs=5, validation_data=test_images, callbacks=[keras.callbacks.TensorBoard("logs")])
        metrics = model.evaluate(test_images, return_dict=True)
        reconstructions = model.predict(test_images)  # [N, 28, 28, 1], as test_images
        model.save("nvae.keras")
        model = keras.models.load_model("nvae.keras")
        model.export("saved_model")
    """

    metrics_names = ("loss", "nelbo", "reconstruction", "kl", "bits_per_dim")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.config = Config(model=self.model_config)
        self.optimizer = None  # expected by Keras's callbacks
        self.run_dir = self.batch_norm_temperature = None
        self._has_weights = False  # of a file or a training
        self._inference_model = None

    def compile(self, config=None, binarize=False):
        """Sets how the model is trained.

        Args:
            config: `TrainConfig`, whose `epochs`, `num_replicas` and fields for a run's folder (log, evaluation,
                checkpoints, recovery) have no effect. Default `TrainConfig()`.
            binarize: whether to draw pixels from Bernoullis, as in `DataConfig`. Default False.

        Raises:
            ConfigError: a field out of range.
            ValueError: the model was created for several machines.
        """
        config = TrainConfig() if config is None else config
        if not isinstance(config, TrainConfig):
            raise ConfigError(f"config: expected a TrainConfig. Received: {config!r}")
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise ValueError(
                "strategy: expected one device or a MirroredStrategy; tools/train.py trains on several machines. "
                "Received: a MultiWorkerMirroredStrategy"
            )
        train = dataclasses.replace(config).validate()
        if self.model_config.likelihood == "bernoulli" and not binarize:
            warnings.warn(
                "binarize: expected True with the Bernoulli likelihood, unless pixels are 0 or 1. Received: False",
                stacklevel=2,
            )
        self.config = Config(self.model_config, DataConfig(binarize=binarize), train)
        self.compiled = True

    def get_compile_config(self):
        config = {"train": config_to_dict(self.config.train), "binarize": self.config.data.binarize}
        return config if self.compiled else {}

    def compile_from_config(self, config):
        self.compile(config_from_dict({"train": config["train"]}).train, config["binarize"])

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self._has_weights = True

    def fit(self, x, *, epochs=1, verbose="auto", callbacks=None, validation_data=None, steps_per_epoch=None):
        """Trains the model, from its current weights and the start of the schedules; returns Keras's `History`.

        With `ema_decay`, validation, callbacks at the end of an epoch and the trained model have the moving average.

        Args:
            x: images; arrays are shuffled anew in each epoch. What does not fill a step is left out.
            epochs: number of epochs, the length of the schedules; at most a fifth is warm-up. Default 1.
            verbose, callbacks, steps_per_epoch: as in Keras; a data set without known length requires the last.
            validation_data: images to evaluate after each epoch. Default None.

        Raises:
            ValueError: not compiled; images of another type, shape or range, too few for a step, or an endless
                `validation_data`.
            NonFiniteLossError: the loss was not finite for `max_nonfinite_steps` steps in a row.
        """
        self._check_compiled("fit")
        images, _ = self._given(x, ends=False)
        held_out = None if validation_data is None else self._given(validation_data)[0]
        train, data, strategy = self.config.train, self.config.data, self.distribute_strategy
        train = dataclasses.replace(train, epochs=epochs, warmup_epochs=min(train.warmup_epochs, epochs / 5)).validate()
        count, size = strategy.num_replicas_in_sync, train.batch_size
        steps = steps_per_epoch or batches.steps_per_epoch(number_of(x, images), size, count)
        bit_depth, places = self.model_config.bit_depth, tuple(range(count))
        shards = batches.train_batches(images, data, bit_depth, size, train.seed, 0, count, places)
        shards = iter(shards)
        first = next(shards, None)
        if first is None:  # only possible with a data set and `steps_per_epoch`
            raise ValueError(f"images: expected at least {size} * {count}, those of a step. Received: fewer")
        configure_runtime()
        trainer = Trainer(self, train, steps, strategy)
        trainer.initializes = not self._has_weights and self.restored_step is None
        settings = {"verbose": verbose, "epochs": epochs, "steps": steps}
        callbacks = keras.callbacks.CallbackList(callbacks, True, verbose != 0, self, **settings)
        self._train(trainer, itertools.chain([first], shards), callbacks, held_out)
        return self.history

    def _train(self, trainer, shards, callbacks, held_out):
        self.stop_training, average, logs = False, trainer.average, {}
        self._has_weights = True
        self.restored_step = self.run_dir = self.batch_norm_temperature = None
        callbacks.on_train_begin()
        for epoch in range(trainer.config.epochs):
            callbacks.on_epoch_begin(epoch)
            logs = self._train_epoch(trainer, shards, callbacks)
            with contextlib.nullcontext() if average is None else average.applied():
                if held_out is not None:
                    logs |= {f"val_{name}": value for name, value in self._evaluate(held_out).items()}
                callbacks.on_epoch_end(epoch, logs)
            if self.stop_training or trainer.step >= trainer.last_step:
                break
        self.averaged = average is not None
        if self.averaged:
            average.apply()
        callbacks.on_train_end(logs)

    def _train_epoch(self, trainer, shards, callbacks):
        """Takes the steps of an epoch and returns the means of its metrics."""
        sums, logs = collections.Counter(), {}
        for step in range(trainer.steps_per_epoch):
            callbacks.on_train_batch_begin(step)
            report = trainer.advance(*next(shards))
            sums.update(self._metric_values(*(float(report[name]) for name in ("loss", "reconstruction", "kl"))))
            logs = {name: total / (step + 1) for name, total in sums.items()}
            callbacks.on_train_batch_end(step, logs)
            if self.stop_training or trainer.step == trainer.last_step:
                break
        return logs

    def evaluate(self, x, *, verbose="auto", return_dict=False):
        """Values of `metrics_names` as a list, or {name: value} with `return_dict`, with one posterior sample each."""
        self._check_compiled("evaluate")
        values = self._evaluate(self._given(x)[0], verbose)
        return values if return_dict else list(values.values())

    def predict(self, x, *, verbose="auto"):
        """Means of p(x | z), float32 [N, H, W, C] in [0, 1], with z drawn from the posteriors of images.

        Images with padding get reconstructions with padding, which is 0.
        """
        images, added = self._given(x)
        progress = _progress(images, verbose)
        model, strategy, means, size, done = self._folded(), self.distribute_strategy, [], None, 0
        for batch in self._batches(images):
            size = size or round_up(len(batch), strategy)
            rows = pad_rows(batch.numpy(), size)
            means.append(reconstruct(model, rows, first=done, strategy=strategy)[: len(batch)])
            done += len(batch)
            progress(done)
        edge = (self.model_config.padding - added,) * 2
        return np.pad(np.concatenate(means), [(0, 0), edge, edge, (0, 0)])

    def export(self, filepath, **options):
        """Writes the next version into the folder of a served model, as tools/export.py does, and returns its path.

        `options` and errors are those of `export_saved_model`.
        """
        from nvae_tf.export.saved_model.export import export_saved_model
        from nvae_tf.runs.provenance import provenance

        origin = provenance(self.run_dir, self, self.batch_norm_temperature)
        return export_saved_model(self, pathlib.Path(filepath), origin, **options)[0]

    def _check_compiled(self, verb):
        if not self.compiled:
            raise ValueError(f"{verb}: expected a compiled model; call compile(nvae_tf.TrainConfig()) first")

    def _given(self, x, ends=True):
        config = self.model_config
        shape = (config.image_height, config.image_width, config.image_channels)
        images, added = given_images(x[0] if isinstance(x, tuple) else x, shape, config.padding)
        if ends and isinstance(images, tf.data.Dataset) and images.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("images to evaluate: expected a data set that ends. Received: an endless one")
        return images, added

    def _batches(self, images):
        train, bit_depth = self.config.train, self.model_config.bit_depth
        size = train.batch_size * self.distribute_strategy.num_replicas_in_sync
        return batches.eval_batches(images, self.config.data, bit_depth, size, train.seed)

    def _evaluate(self, images, verbose=0):
        progress, strategy = _progress(images, verbose), self.distribute_strategy
        result = evaluate(self._folded(), self._batches(images), progress=progress, strategy=strategy)
        return self._metric_values(result.kl - result.reconstruction, -result.reconstruction, result.kl)

    def _metric_values(self, loss, reconstruction, kl):
        nelbo = reconstruction + kl
        bits = nelbo / (hierarchy.num_outputs(self.model_config) * math.log(2.0))
        return dict(zip(self.metrics_names, (loss, nelbo, reconstruction, kl, bits), strict=True))

    def _folded(self):
        model = refold(self, self._inference_model, self.distribute_strategy)
        vars(self)["_inference_model"] = model  # an attribute would be tracked and saved
        return model


def _progress(images, verbose):
    number = None if isinstance(images, tf.data.Dataset) else len(images)
    return keras.utils.Progbar(number, verbose=1 if verbose == "auto" else verbose, unit_name="image").update
