"""The trainer, which takes steps with one `tf.function` over `strategy.run`."""

import functools
import math
import time

import tensorflow as tf

from nvae_tf.layers.dropout import DROPOUT_SEED
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting
from nvae_tf.layers.replicas import replica_index
from nvae_tf.models.noise import draw_noise
from nvae_tf.training.accumulation import GradientAccumulator
from nvae_tf.training.distributed.strategy import num_workers
from nvae_tf.training.guards import NonFiniteLossError
from nvae_tf.training.schedules import batch_size_factor, kl_weight, learning_rate, regularization_weight
from nvae_tf.training.step import TrainingStep

_NOISE, _DROPOUT = 7, 11  # separate the noise of the latents and the dropout from the other streams of the run's seed


def configure_runtime():
    """Sets TensorFlow's graph options for training; call before the first step.

    The graph already consists of few, large ops. On two cores grappler adds 8 s to the start of the published MNIST
    model (15.5 instead of 7.6 s for the first step), and the step takes 0.91 s with it and 0.90 to 0.93 s without. On
    GPUs it chooses the layout of the convolutions and stays on.
    """
    if not tf.config.list_physical_devices("GPU"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class Trainer:
    """Trains a model step by step; each step is a function of (state, batch, seed, step number).

    Args:
        model: built `ImageModel`.
        config: `TrainConfig`.
        steps_per_epoch: number of steps in an epoch; with `config.epochs` it determines the schedules.
        strategy: `tf.distribute.Strategy` in whose scope the model was made; the current one if None. Default None.
        jit_compile: compile the step with XLA. Default False.

    Attributes:
        config: `TrainConfig`, resolved.
        step: number of steps done.
        initializes: whether the first step may initialise weights from its batch, as for an untrained model.
        last_step: step at which the run ends.
        state: {part: Keras layer or model} whose variables are the state of the run.
        average: `WeightAverage`, or None.
        num_replicas, num_workers: number of replicas, of all workers together, and number of workers.
        num_traces: how often the step was traced.
        trace_seconds, first_seconds: duration of the last trace, and of the trace and the step it came with.
    """

    def __init__(self, model, config, steps_per_epoch, strategy=None, jit_compile=False):
        self.model = model
        self.config = config = config.resolved()
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = config.epochs * steps_per_epoch
        self.last_step = min(self.total_steps, config.max_steps or self.total_steps)
        self.step = 0
        self.initializes = True
        self.num_traces = 0
        self.trace_seconds = self.first_seconds = 0.0
        self._strategy = strategy or tf.distribute.get_strategy()
        self.num_replicas = self._strategy.num_replicas_in_sync
        self.num_workers = num_workers(self._strategy)
        self._rate_factor = batch_size_factor(config, config.batch_size * self.num_replicas)
        with self._strategy.scope():
            self._training_step = TrainingStep(model, config)
            self._accumulator = None
            if config.micro_batches > 1:
                self._accumulator = GradientAccumulator(self._training_step, config.micro_batches)
        self.state = self._training_step.state
        self.average = self._training_step.average
        self._compile(jit_compile)

    def _compile(self, jit_compile):
        functions = self._replica_step, self._add_micro_batch, self._apply_micro_batches
        if jit_compile and self.num_replicas > 1:
            # XLA compiles what each replica does, including its exchange with the others.
            functions = map(functools.partial(tf.function, autograph=False, jit_compile=True), functions)
            jit_compile = False
        self._replica_function, self._add_function, self._apply_function = functions
        self._function = tf.function(self._distributed_step, autograph=False, jit_compile=jit_compile or None)

    @property
    def num_left_out(self):
        """Number of steps so far that the guards skipped or had repeated."""
        guards = self._training_step.guards
        counts = (guards.num_nonfinite, guards.num_skipped)
        return sum(int(tf.convert_to_tensor(count.value)) for count in counts)

    def schedules(self, step):
        """{"kl_weight", "regularization", "learning_rate"} at a step."""
        weight = kl_weight(step, self.total_steps, self.config)
        return {
            "kl_weight": weight,
            "regularization": regularization_weight(weight, self.config),
            "learning_rate": learning_rate(step, self.steps_per_epoch, self.config, self._rate_factor),
        }

    def _seed(self, purpose, *counters):
        """Seed of this replica's random numbers, int64 [2]."""
        seed = tf.constant([self.config.seed, purpose], tf.int64)
        for counter in (*counters, replica_index()):
            seed = tf.random.fold_in(seed, tf.cast(counter, tf.int64), alg="philox")
        return seed

    def _noise(self, batch_size, step):
        return draw_noise(self.model.noise_shapes(batch_size), self._seed(_NOISE, step))

    def _replica_step(self, images, step, stop):
        schedules = self.schedules(step)
        noise = self._noise(tf.shape(images)[0], step)
        with setting(DROPOUT_SEED, self._seed(_DROPOUT, step)):
            return {**schedules, **self._training_step.update(images, noise, **schedules, stop=stop)}

    def _add_micro_batch(self, index, images, step):
        schedules = self.schedules(step)
        noise = self._noise(tf.shape(images)[0], step)
        with setting(DROPOUT_SEED, self._seed(_DROPOUT, step, index)):
            self._accumulator.add(index, images, noise, schedules["kl_weight"], schedules["regularization"])

    def _apply_micro_batches(self, step, stop):
        schedules = self.schedules(step)
        return {**schedules, **self._accumulator.apply(schedules["learning_rate"], stop)}

    def _distributed_step(self, images, step, stop):
        start = time.perf_counter()
        if self._accumulator is None:
            report = self._strategy.run(self._replica_function, args=(images, step, stop))
        else:

            def add(index):
                self._strategy.run(self._add_function, args=(index, images, step))
                return (index + 1,)

            count = self._accumulator.count
            tf.while_loop(lambda index: index < count, add, (tf.constant(0),), parallel_iterations=1)
            report = self._strategy.run(self._apply_function, args=(step, stop))
        self.num_traces += 1
        self.trace_seconds = time.perf_counter() - start
        # The terms are means over the replicas, so every copy is the same.
        return {name: self._strategy.experimental_local_results(value)[0] for name, value in report.items()}

    def _distribute(self, shards):
        if len(shards) == 1:
            return shards[0]
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: shards[context.replica_id_in_sync_group % len(shards)]
        )

    def trace(self, *shards):
        """Traces the step without running it; `advance` with images of the same shapes does not trace again."""
        self._function.get_concrete_function(
            self._distribute(shards), tf.constant(self.step, tf.int64), tf.constant(0.0)
        )

    def advance(self, *shards, stop=False):
        """Takes one step; with float16 it is repeated for as long as its scaled gradient overflows.

        Args:
            shards: images [B, H, W, C] in [0, 1] for each replica of this worker.
            stop: whether this process has been asked to stop after the step. Default False.

        Returns:
            Dict of the terms (tensors), averaged over all replicas; `stop` is positive if any process is to stop.

        Raises:
            NonFiniteLossError: the last `max_nonfinite_steps` steps were skipped because they were not finite.
        """
        images = self._distribute(shards)
        if self.step == 0 and self.initializes:
            self._initialize_from(images)
        stop = tf.constant(float(stop))
        start, traces = time.perf_counter(), self.num_traces
        with tf.profiler.experimental.Trace("train", step_num=self.step, _r=1):
            report = self._function(images, tf.constant(self.step, tf.int64), stop)
            nonfinite = int(report["nonfinite_in_a_row"])
            # An overflowing gradient of a finite loss only means that the scale, lower by now, was too large.
            while self._overflowed(report) and nonfinite < self.config.max_nonfinite_steps:
                report = self._function(images, tf.constant(self.step, tf.int64), stop)
                nonfinite = int(report["nonfinite_in_a_row"])
        if self.num_traces > traces:
            self.first_seconds = time.perf_counter() - start
        self.step += 1
        if nonfinite >= self.config.max_nonfinite_steps:
            raise NonFiniteLossError(self.step, report)
        return report

    def _overflowed(self, report):
        """Whether only the loss scale made the gradient non-finite; the same on every worker."""
        scales, nonfinite = self._training_step.guards.scales_loss, int(report["nonfinite_in_a_row"])
        return scales and bool(nonfinite) and math.isfinite(float(report["loss"]))

    def _initialize_from(self, images):
        """Sets the weights that depend on the first batch, if there are any; the average then starts anew."""
        if not self.model.data_dependent:
            return

        def initialize(images):
            with setting(INITIALIZING_FROM_DATA, True), setting(DROPOUT_SEED, self._seed(_DROPOUT, -1)):
                self.model(images, noise=self._noise(tf.shape(images)[0], -1), training=True)
            if self.average is not None:
                self.average.restart()

        tf.function(lambda images: self._strategy.run(initialize, args=(images,)), autograph=False)(images)

    @property
    def may_recover(self):
        """Whether the run may go back to a checkpoint after a `NonFiniteLossError`, which it does once."""
        recovered = float(tf.convert_to_tensor(self._training_step.guards.learning_rate_factor.value)) != 1.0
        return bool(self.config.recovery_learning_rate) and not recovered

    def recover(self, step):
        """Continues from a step whose state has been restored, with the learning rate for recovery."""
        self.step = step
        self._training_step.guards.restart(self.config.recovery_learning_rate)
