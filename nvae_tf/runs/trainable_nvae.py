"""The model with the verbs of Keras: compile, fit, evaluate, predict, save and export."""

import collections
import contextlib
import dataclasses
import math
import pathlib

import keras
import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.config import Config, ConfigError, DataConfig, TrainConfig, config_from_dict, config_to_dict
from nvae_tf.data import batches
from nvae_tf.data.given_images import given_images, number_of
from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import reconstruct
from nvae_tf.inference.folding import fold
from nvae_tf.inference.model import InferenceModel
from nvae_tf.layers.replicas import pad_rows, round_up
from nvae_tf.models.nvae import NVAE
from nvae_tf.training.trainer import Trainer, configure_runtime


# Named as in the .keras files of earlier versions.
@keras.saving.register_keras_serializable(package="nvae_tf", name="NVAE")
class TrainableNVAE(NVAE):
    """`nvae_tf.NVAE`: an `NVAE` that trains, evaluates, predicts and saves as other Keras models do.

    `fit` takes the steps that tools/train.py takes, on one device or, if the model is created in the scope of a
    `tf.distribute.MirroredStrategy`, on several; tools/train.py also resumes runs and trains on several machines.

    Images are arrays [N, H, W, C], or a `tf.data.Dataset` of such batches or of single images, of which only the first
    part counts if it has tuples: uint8, or floats in [0, 1], which are rounded to 8 bits. They may come without the
    model's padding. `keras.models.load_model` returns this class, compiled, once Keras knows it: import `nvae_tf` after
    Keras or TensorFlow, or write `from nvae_tf import NVAE`.

    Args:
        config: `ModelConfig`, or a dict of its fields.

    Attributes:
        metrics_names: names of the metrics, in nats except for the last: `loss`, in training with the weight of the KL
            term and the regularisers, else the NELBO; `nelbo`; `reconstruction`, -log p(x | z); `kl`; `bits_per_dim`,
            the NELBO in bits per dimension.
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
        pictures = model.likelihood(model.generate(batch_size=16, temperature=0.7)).mean()
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
        vars(self)["_inference_model"] = None  # Keras and TensorFlow would track an attribute and save it

    def compile(self, config=None, binarize=False):
        """Sets how the model is trained.

        Args:
            config: `TrainConfig`; `fit` ignores `epochs`, `num_replicas`, and what concerns a run's folder: the log,
                evaluations, checkpoints and recovery. Default `TrainConfig()`.
            binarize: whether to draw each pixel from a Bernoulli, anew in each epoch; in `evaluate` and `predict` the
                draw is always the same. Default False.

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
        self.config = Config(self.model_config, DataConfig(binarize=binarize), train)
        self.compiled = True

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return {"train": config_to_dict(self.config.train), "binarize": self.config.data.binarize}

    def compile_from_config(self, config):
        self.compile(config_from_dict({"train": config["train"]}).train, config["binarize"])

    def fit(self, x, *, epochs=1, verbose="auto", callbacks=None, validation_data=None, steps_per_epoch=None):
        """Trains the model.

        Each call is a training of its own, with the learning rate and the weight of the KL term going through their
        schedules, from the current weights. With `ema_decay` the callbacks at the end of an epoch, the validation and
        the trained model have the moving average of the weights.

        Args:
            x: training images; arrays are shuffled anew in each epoch. An incomplete batch is left out.
            epochs: number of epochs, on which the schedules are based; the warm-up of the learning rate takes
                `warmup_epochs`, but at most a fifth of them. Default 1.
            verbose: 0 for silence, 1 for a progress bar, 2 for a line per epoch. Default `"auto"`, which is 1.
            callbacks: list of `keras.callbacks.Callback`. Default None.
            validation_data: images that are evaluated after each epoch; metrics are prefixed `val_`. Default None.
            steps_per_epoch: steps in an epoch, required for an endless data set; None for all images. Default None.

        Returns:
            `keras.callbacks.History`.

        Raises:
            ValueError: not compiled; images of another type, shape or range, or fewer than one step takes.
            NonFiniteLossError: the loss was not finite for `max_nonfinite_steps` steps in a row.
        """
        self._check_compiled("fit")
        images, _ = self._given(x)
        held_out = None if validation_data is None else self._given(validation_data)[0]
        train, strategy = self.config.train, self.distribute_strategy
        train = dataclasses.replace(train, epochs=epochs, warmup_epochs=min(train.warmup_epochs, epochs / 5)).validate()
        count = strategy.num_replicas_in_sync
        steps_per_epoch = steps_per_epoch or batches.steps_per_epoch(self._number_of(images), train.batch_size, count)
        shards = batches.train_batches(
            images,
            self.config.data,
            self.model_config.bit_depth,
            train.batch_size,
            train.seed,
            num_shards=count,
            shard_indices=tuple(range(count)),
        )
        with _training_runtime():
            trainer = Trainer(self, train, steps_per_epoch, strategy)
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_history=True,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=epochs,
                steps=steps_per_epoch,
                model=self,
            )
            self._train(trainer, iter(shards), callbacks, held_out)
        return self.history

    def _train(self, trainer, shards, callbacks, held_out):
        self.stop_training, average, logs = False, trainer.average, {}
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
        return dict(logs)

    def evaluate(self, x, *, verbose="auto", return_dict=False):
        """Evaluates images with one posterior sample each, as tools/evaluate.py does.

        Args:
            x: images.
            verbose: 0 for silence, 1 for a progress bar. Default `"auto"`, which is 1.
            return_dict: whether to return {name: value}. Default False.

        Returns:
            Values of `metrics_names`.
        """
        self._check_compiled("evaluate")
        values = self._evaluate(self._given(x)[0], verbose)
        return values if return_dict else list(values.values())

    def predict(self, x, *, verbose="auto"):
        """Reconstructs images: means of p(x | z) with z drawn from their posteriors, the same at every call.

        Args:
            x: images [N, H, W, C].
            verbose: see `evaluate`.

        Returns:
            float32 [N, H, W, C] in [0, 1], with zeros as padding if the images have padding.
        """
        images, added = self._given(x)
        progress = _progress(self._number_of(images), verbose)
        model, means, size, done = self._folded(), [], None, 0
        for batch in self._batches(images):
            size = size or round_up(len(batch), self.distribute_strategy)
            rows = pad_rows(batch.numpy(), size)
            means.append(reconstruct(model, rows, first=done, strategy=self.distribute_strategy)[: len(batch)])
            done += len(batch)
            progress(done)
        edge = self.model_config.padding - added
        return np.pad(np.concatenate(means), [(0, 0), (edge, edge), (edge, edge), (0, 0)])

    def export(self, filepath, **options):
        """Writes the model for TensorFlow Serving, as tools/export.py --format=saved_model does.

        Args:
            filepath: folder of the served model, in which this becomes the next version.
            **options: `name`, `pixels`, `temperature`, `batch_sizes` and `report` of `export_saved_model`.

        Returns:
            `pathlib.Path` of the version's folder.

        Raises:
            ValueError, OSError: see `export_saved_model`.
        """
        from nvae_tf.export.saved_model.export import export_saved_model
        from nvae_tf.runs.provenance import provenance

        origin = provenance(self.run_dir, self, self.batch_norm_temperature)
        # GPUs would round to ten bits (TensorFloat-32), far more than an export may differ from Keras.
        rounded = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            return export_saved_model(self, pathlib.Path(filepath), origin, **options)[0]
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(rounded)

    def _check_compiled(self, verb):
        if not self.compiled:
            raise ValueError(f"{verb}: expected a compiled model; call compile(nvae_tf.TrainConfig()) first")

    def _given(self, x):
        config = self.model_config
        shape = (config.image_height, config.image_width, config.image_channels)
        return given_images(x[0] if isinstance(x, tuple) else x, shape, config.padding)

    @staticmethod
    def _number_of(images):
        number = number_of(images)
        if number is None:
            raise ValueError("images: expected a data set that ends, or steps_per_epoch. Received: an endless one")
        return number

    def _batches(self, images):
        train, count = self.config.train, self.distribute_strategy.num_replicas_in_sync
        bit_depth = self.model_config.bit_depth
        return batches.eval_batches(images, self.config.data, bit_depth, train.batch_size * count, train.seed)

    def _evaluate(self, images, verbose=0):
        progress = _progress(self._number_of(images), verbose)
        result = evaluate(self._folded(), self._batches(images), progress=progress, strategy=self.distribute_strategy)
        return self._metric_values(result.kl - result.reconstruction, -result.reconstruction, result.kl)

    def _metric_values(self, loss, reconstruction, kl):
        nelbo = reconstruction + kl
        bits = nelbo / (hierarchy.num_outputs(self.model_config) * math.log(2.0))
        return dict(zip(self.metrics_names, (loss, nelbo, reconstruction, kl, bits), strict=True))

    def _folded(self):
        """`InferenceModel` of the current weights."""
        folded = fold(self)
        if self._inference_model is None:
            with self.distribute_strategy.scope():
                vars(self)["_inference_model"] = InferenceModel(folded)
        self._inference_model.assign(folded)  # one model for all calls, so that each function is traced once
        return self._inference_model


def _progress(number, verbose):
    bar = keras.utils.Progbar(number, verbose=1 if verbose == "auto" else verbose, unit_name="image")
    return bar.update


@contextlib.contextmanager
def _training_runtime():
    """Context with TensorFlow's options for training."""
    before = tf.config.optimizer.get_experimental_options()
    configure_runtime()
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False} | before)
