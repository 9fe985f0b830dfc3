"""Callbacks between steps: the base class, the log with its TensorBoard scalars, and the profile."""

import time

import numpy as np
import tensorflow as tf

from nvae_tf.objectives.kl import ACTIVE_KL


def is_due(epochs, trainer, epoch):
    """Whether something done every `epochs` epochs, and at the end of the run, is due now; 0 epochs mean never."""
    return bool(epochs) and (epoch % epochs == 0 or trainer.step == trainer.last_step)


class Callback:
    """Base class, whose methods do nothing; subclasses override some of them."""

    def on_start(self, trainer):
        """Called before the first step of this process."""

    def on_step(self, trainer, report):
        """Called after each step; `report` is the dict that `Trainer.advance` returned."""

    def on_epoch(self, trainer, epoch):
        """Called after each whole epoch (counted from 1), and at the end of the run."""

    def on_recovery(self, trainer, error):
        """Called after the run went back to a checkpoint because of a `NonFiniteLossError`."""

    def on_stop(self, trainer):
        """Called at the end of the run, or when it stops early."""


class ScalarLog(Callback):
    """Writes the terms of the objective, in nats, to the log and to TensorBoard every `log_steps` steps.

    The skip rate is the fraction of the steps since the last line that the guards skipped. The first step and the first
    one after each epoch do not count towards the images per second: tracing, evaluation or saving precedes them.
    """

    def __init__(self, writer):
        self._writer = writer
        self._left_out = self._logged_step = self._traces = 0
        self._steps, self._seconds, self._last = 0, 0.0, None

    def on_start(self, trainer):
        self._left_out, self._logged_step, self._traces = trainer.num_left_out, trainer.step, trainer.num_traces
        self._begin_session(trainer)
        if trainer.step < trainer.last_step:
            print("tracing the step, which takes a while for deep models ...", flush=True)

    def on_step(self, trainer, report):
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += 1
        self._last = now
        if trainer.num_traces > self._traces:
            self._traces = trainer.num_traces
            trace, rest = trainer.trace_seconds, trainer.first_seconds - trainer.trace_seconds
            print(f"traced in {trace:.1f} s, optimised and run for the first time in {rest:.1f} s", flush=True)
        if trainer.step % trainer.config.log_steps == 0 or trainer.step == trainer.last_step:
            values = {name: np.asarray(value) for name, value in report.items()}
            values["nelbo"] = values["reconstruction"] + values["kl"]
            # Latent channels of each group that have not collapsed to their prior.
            values["active_units"] = np.sum(values["kl_per_channel"] > ACTIVE_KL, axis=1)
            rate, skip_rate = self._images_per_second(trainer), self._skip_rate(trainer, values)
            self._write(trainer, values, rate, skip_rate)
            self._log(trainer, values, rate, skip_rate)

    def on_epoch(self, trainer, epoch):
        self._last = None

    def on_recovery(self, trainer, error):
        rate = trainer.config.recovery_learning_rate
        print(f"{error}\nBack at step {trainer.step}, with {rate:g} times the learning rate.", flush=True)
        self._left_out, self._logged_step = trainer.num_left_out, trainer.step
        self._begin_session(trainer)

    def _begin_session(self, trainer):
        # From the second one on, TensorBoard drops what was written after this step, by a killed process or before the
        # run went back.
        session = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        event = tf.compat.v1.Event(wall_time=time.time(), step=trainer.step + 1, session_log=session)
        tf.raw_ops.ImportEvent(writer=self._writer._resource, event=event.SerializeToString())

    def _images_per_second(self, trainer):
        """Images per second on all replicas since the last call; 0 if no step counted."""
        rate = self._steps * trainer.config.batch_size * trainer.num_replicas / max(self._seconds, 1e-9)
        self._steps, self._seconds = 0, 0.0
        return rate

    def _skip_rate(self, trainer, values):
        left_out = int(values["num_nonfinite"] + values["num_skipped"])
        rate = (left_out - self._left_out) / max(trainer.step - self._logged_step, 1)
        self._left_out, self._logged_step = left_out, trainer.step
        return rate

    def _write(self, trainer, values, rate, skip_rate):
        with self._writer.as_default(trainer.step):
            regularizers = [name for name in ("spectral", "batch_norm") if name in values]
            for name in ("nelbo", "loss", "reconstruction", "kl", *regularizers, "gradient_norm"):
                tf.summary.scalar(f"train/{name}", values[name])
            for name in ("kl_weight", "regularization", "learning_rate", "loss_scale"):
                tf.summary.scalar(f"schedule/{name}", values[name])
            tf.summary.scalar("train/skip_rate", skip_rate)
            tf.summary.scalar("train/images_per_second", rate)
            tf.summary.scalar("train/images_per_second_per_replica", rate / trainer.num_replicas)
            tf.summary.scalar("active_units/total", values["active_units"].sum())
            for name, value in trainer.model.scalars().items():
                tf.summary.scalar(f"model/{name}", value)
            for name in ("kl_per_group", "kl_coefficients", "active_units"):
                for group, value in enumerate(values[name]):
                    tf.summary.scalar(f"{name}/{group:02d}", value)

    def _log(self, trainer, values, rate, skip_rate):
        line = (
            f"step {trainer.step}/{trainer.last_step}  loss {values['loss']:.2f}  nelbo {values['nelbo']:.2f}  "
            f"reconstruction {values['reconstruction']:.2f}  kl {values['kl']:.2f}  "
            f"active {values['active_units'].sum()}  lr {values['learning_rate']:.2e}  {rate:.1f} images/s"
        )
        print(line + (f"  skipped {skip_rate:.0%}" if skip_rate else ""), flush=True)


class Profile(Callback):
    """Writes a TensorBoard profile of the steps after `start`, up to `stop`."""

    def __init__(self, log_dir, start, stop):
        self._log_dir = str(log_dir)
        self._start = start
        self._stop = stop
        self._running = False

    def on_start(self, trainer):
        if trainer.step >= self._stop or self._start >= trainer.last_step:
            wanted = f"steps {self._start + 1} to {self._stop}"
            print(f"no profile of {wanted}: the run goes from {trainer.step} to {trainer.last_step}", flush=True)
        self.on_step(trainer, None)

    def on_step(self, trainer, report):
        if self._start <= trainer.step < self._stop and not self._running:
            tf.profiler.experimental.start(self._log_dir)
            self._running = True
        elif trainer.step == self._stop:
            self.on_stop(trainer)

    def on_stop(self, trainer):
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
            print(f"profile up to step {trainer.step}: {self._log_dir}/plugins/profile", flush=True)
