"""The training loop: one `tf.function` over `strategy.run`, and callbacks between steps."""

import functools
import math
import time

import tensorflow as tf

from nvae_tf.layers.kernels import initializing_from_data
from nvae_tf.layers.replicas import replica_index
from nvae_tf.models.noise import draw_noise
from nvae_tf.objectives.kl import kl_weight
from nvae_tf.objectives.regularizers import regularization_weight
from nvae_tf.training.accumulation import GradientAccumulator
from nvae_tf.training.distributed.strategy import num_workers
from nvae_tf.training.errors import Interrupted, NonFiniteLossError
from nvae_tf.training.schedules import batch_size_factor, learning_rate
from nvae_tf.training.step import TrainingStep

_NOISE = 7  # keeps the noise of the latents apart from the other streams of the run's seed


def configure_runtime():
    """Sets the options of TensorFlow's graphs that pay in training; call before the first step.

    The graph is made of few, large ops already. On two cores grappler takes 8 s of the published MNIST model's start
    (15.5 instead of 7.6 s for the first step) and the step is 0.91 s with it and 0.90 to 0.93 s without. On GPUs it
    chooses the layout of the convolutions and stays.
    """
    if not tf.config.list_physical_devices("GPU"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class Trainer:
    """Trains a model step by step, every step a function of (state, batch, seed, step number).

    Args:
        model: built `NVAE`.
        config: `TrainConfig`.
        steps_per_epoch: steps of an epoch; with `config.epochs` it sets the schedules.
        strategy: `tf.distribute.Strategy` in whose scope the model was made; the current one if None.
        jit_compile: compile the step by XLA. Default False.

    Attributes:
        step: steps done.
        last_step: where the run ends.
        state: {part: Keras layer or model} whose variables are the state of the run.
        average: `WeightAverage`, or None.
        num_replicas, num_workers: replicas of all workers together, and workers.
        num_traces: how often the step was traced; `trace_seconds` is how long the last time took, and
            `first_seconds` that and the step that came with it.
        doing: what the trainer does now, for people who wait, and `since` when (`time.monotonic`).
        stop_requested: function of nothing; True where this process is asked to stop after the step.
        stopped: the run ended because a process was asked to stop.
    """

    def __init__(self, model, config, steps_per_epoch, strategy=None, jit_compile=False):
        self.model = model
        self.config = config = config.resolved()
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = config.epochs * steps_per_epoch
        self.last_step = min(self.total_steps, config.max_steps or self.total_steps)
        self.step = 0
        self.stop_requested = lambda: False
        self.stopped = False
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
        self._replica_function = self._replica_step
        self._add_function, self._apply_function = self._add_micro_batch, self._apply_micro_batches
        if jit_compile and self.num_replicas > 1:
            # XLA compiles what each replica does; the exchange between them becomes part of it.
            compiled = functools.partial(tf.function, autograph=False, jit_compile=True)
            self._replica_function = compiled(self._replica_step)
            self._add_function, self._apply_function = map(compiled, (self._add_function, self._apply_function))
            jit_compile = False
        self._function = tf.function(self._distributed_step, autograph=False, jit_compile=jit_compile or None)
        self.enter("starting")

    @property
    def num_left_out(self):
        """Steps that the guards have left out, or had taken again, so far."""
        guards = self._training_step.guards
        counts = (guards.num_nonfinite, guards.num_skipped)
        return sum(int(tf.convert_to_tensor(count.value)) for count in counts)

    def enter(self, doing):
        """Notes what the trainer does from now on."""
        self.doing, self.since = doing, time.monotonic()

    def _schedules(self, step):
        config = self.config
        weight = kl_weight(
            step, self.total_steps, config.kl_anneal_fraction, config.kl_constant_fraction, config.kl_min_weight
        )
        return {
            "kl_weight": weight,
            "regularization": regularization_weight(weight, config.regularization, config.initial_regularization),
            "learning_rate": learning_rate(step, self.steps_per_epoch, config, self._rate_factor),
        }

    def _noise(self, batch_size, step):
        seed = tf.constant([self.config.seed, _NOISE], tf.int64)
        for counter in (step, replica_index()):
            seed = tf.random.fold_in(seed, tf.cast(counter, tf.int64), alg="philox")
        return draw_noise(self.model.noise_shapes(batch_size), seed)

    def _replica_step(self, images, step, stop):
        schedules = self._schedules(step)
        noise = self._noise(tf.shape(images)[0], step)
        return {**schedules, **self._training_step.update(images, noise, **schedules, stop=stop)}

    def _add_micro_batch(self, index, images, step):
        schedules = self._schedules(step)
        noise = self._noise(tf.shape(images)[0], step)
        self._accumulator.add(index, images, noise, schedules["kl_weight"], schedules["regularization"])

    def _apply_micro_batches(self, step, stop):
        schedules = self._schedules(step)
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
        # The terms are means over the replicas: one copy says all.
        return {name: self._strategy.experimental_local_results(value)[0] for name, value in report.items()}

    def _distribute(self, shards):
        if len(shards) == 1:
            return shards[0]
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: shards[context.replica_id_in_sync_group % len(shards)]
        )

    def trace(self, *shards):
        """Traces the step without running it; `advance` on images of the same shapes does not trace again."""
        self._function.get_concrete_function(
            self._distribute(shards), tf.constant(self.step, tf.int64), tf.constant(0.0)
        )

    def advance(self, *shards):
        """One step; with float16, once more for each time that its scaled gradient overflows.

        Args:
            shards: images [B, H, W, C] in [0, 1] for each replica of this worker.

        Returns:
            A dict of the terms (tensors), means over all replicas.

        Raises:
            NonFiniteLossError: the last `max_nonfinite_steps` steps were left out because they were not finite.
        """
        images = self._distribute(shards)
        if self.step == 0:
            self._initialize_from(images)
        stop = tf.constant(float(self.stop_requested()))
        start, traces = time.perf_counter(), self.num_traces
        with tf.profiler.experimental.Trace("train", step_num=self.step, _r=1):
            report = self._function(images, tf.constant(self.step, tf.int64), stop)
            nonfinite = int(report["nonfinite_in_a_row"])
            # A finite loss with an overflowing gradient is no fault of the step: again, with the scale that has fallen.
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
        """Whether the loss scale alone made the gradient not finite; the same on every worker."""
        scales, nonfinite = self._training_step.guards.scales_loss, int(report["nonfinite_in_a_row"])
        return scales and bool(nonfinite) and math.isfinite(float(report["loss"]))

    def _initialize_from(self, images):
        """Sets what depends on the first batch (cell set `res_elu`)."""
        if any(conv.data_dependent for conv in self.model.convolutions):

            def initialize(images):
                with initializing_from_data():
                    self.model(images, noise=self._noise(tf.shape(images)[0], -1))

            run = tf.function(lambda images: self._strategy.run(initialize, args=(images,)), autograph=False)
            run(images)

    def run(self, batches, callbacks=(), restore=None):
        """Steps until `last_step`, or until a process is asked to stop.

        Args:
            batches: function of a step that gives an iterable of the batches from that step on: tuples of images
                [B, H, W, C], one for each replica of this worker.
            callbacks: `Callback`s.
            restore: function of a step that brings the state back to the last checkpoint before it and returns that
                one's step, None where there is none; with `recovery_learning_rate` it is used once when the loss
                stays non-finite. Default None.
        """
        if self._stops_alone():
            self.stopped = True
            return
        self._call(callbacks, "on_start")
        while self.step < self.last_step and not self.stopped:
            try:
                self._run_from(iter(batches(self.step)), callbacks)
            except NonFiniteLossError as error:
                if restore is None or not self._may_recover():
                    raise
                self.enter("going back to the last checkpoint")
                # The checkpoint of the last step taken has the weights that ruined those after it.
                step = restore(self.step - self.config.max_nonfinite_steps)
                if step is None:
                    raise
                self.step = step
                self._training_step.guards.restart(self.config.recovery_learning_rate)
                for callback in callbacks:
                    callback.on_recovery(self, error)
        self._call(callbacks, "on_stop")

    def _stops_alone(self):
        """Whether this process is asked to stop and need not tell others first."""
        return self.num_workers == 1 and self.stop_requested()

    def _may_recover(self):
        recovered = float(tf.convert_to_tensor(self._training_step.guards.learning_rate_factor.value)) != 1.0
        return bool(self.config.recovery_learning_rate) and not recovered

    def _call(self, callbacks, event, *arguments):
        try:
            for callback in callbacks:
                self.enter(f"{type(callback).__name__}.{event}")
                getattr(callback, event)(self, *arguments)
        except Interrupted:
            # Other workers do not know yet: one more step, where there is one, tells them.
            self.stopped = self.num_workers == 1 or self.step == self.last_step

    def _run_from(self, batches, callbacks):
        while self.step < self.last_step and not self.stopped:
            self.enter("waiting for data")
            shards = next(batches)
            self.enter(f"step {self.step + 1}")
            report = self.advance(*shards)
            self.stopped = float(report["stop"]) > 0 or self._stops_alone()
            for callback in callbacks:
                callback.on_step(self, report)
            if not self.stopped and (self.step % self.steps_per_epoch == 0 or self.step == self.last_step):
                self._call(callbacks, "on_epoch", math.ceil(self.step / self.steps_per_epoch))
