"""Guards of a run: steps that would ruin it are skipped, and the loss is scaled for float16 gradients."""

import typing

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign

_INITIAL_LOSS_SCALE = 2.0**10
_LEAST_LOSS_SCALE = 2.0**-14
_GROWTH_STEPS = 2000  # finite steps after which the scale doubles
_NORM_MOMENTUM = 0.99  # of the running mean of the gradient's norm
_TERMS = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")


class NonFiniteLossError(ArithmeticError):
    """The loss or gradient was NaN or infinite for too many steps in a row; the message suggests remedies."""

    def __init__(self, step, report):
        names = [name for name in (*_TERMS, "gradient_norm", "loss_scale") if name in report]
        terms = ", ".join(f"{name} {float(report[name]):.6g}" for name in names)
        count = int(report["nonfinite_in_a_row"])
        super().__init__(
            f"Loss or gradient are not finite at step {step}, for {count} steps in a row: {terms}. What helps in a new "
            "run: a larger train.regularization, train.initial_regularization (lambda annealed from a larger value), a "
            "smaller train.learning_rate, train.stability=safe, train.precision=float32. What helps in this run: "
            "train.recovery_learning_rate=0.5, which goes back to a checkpoint and lowers the learning rate."
        )


class Verdict(typing.NamedTuple):
    """Decision on a step; float32 scalars.

    Attributes:
        norm: global norm of the gradient, without the loss scale and before clipping.
        finite: 1 if loss and gradient are finite, else 0.
        accept: 1 if the step is taken, 0 if it is skipped.
        factor: factor for the gradient that removes the loss scale and clips; 0 if the step is skipped.
    """

    norm: tf.Tensor
    finite: tf.Tensor
    accept: tf.Tensor
    factor: tf.Tensor


class Guards(keras.layers.Layer):
    """Judges each step by its loss and gradient, averaged over the replicas, so that all replicas decide alike.

    A float16 overflow counts as non-finite; `Trainer.advance` then repeats the step. The decisions are numbers in the
    graph, not branches: a skipped step is multiplied by zero. `config` is a resolved `TrainConfig`.

    Attributes:
        loss_scale: factor of the loss before its gradient is taken; changes only with `precision="mixed_float16"`
            (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).
        learning_rate_factor: 1, or `recovery_learning_rate` after the run went back to a checkpoint.
        num_nonfinite, num_skipped: numbers of steps skipped so far for being non-finite, and for too large a norm.
        nonfinite_in_a_row, skipped_in_a_row: the same counts since the last accepted step.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.scales_loss = config.compute_dtype == "float16"
        scale = _INITIAL_LOSS_SCALE if self.scales_loss else 1.0
        self.loss_scale = self._number("loss_scale", scale)
        self.learning_rate_factor = self._number("learning_rate_factor", 1.0)
        self.norm_mean = self._number("norm_mean", 0.0)
        counters = ("finite_steps", "num_nonfinite", "num_skipped", "nonfinite_in_a_row", "skipped_in_a_row")
        for name in counters:
            setattr(self, name, self._number(name, 0, "int64"))
        self.built = True

    def _number(self, name, value, dtype="float32"):
        initializer = keras.initializers.Constant(value)
        return self.add_weight((), initializer, dtype, trainable=False, autocast=False, name=name)

    def judge(self, loss, gradients):
        """Returns the `Verdict` on a step, from its unscaled loss and its gradients multiplied by the loss scale."""
        config, scale = self.config, tf.convert_to_tensor(self.loss_scale)
        norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])) / scale
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        accept = finite
        if config.skip_norm or config.skip_factor:
            patient = tf.convert_to_tensor(self.skipped_in_a_row) < config.max_skipped_steps
            accept = finite & ~((norm > self._limit()) & patient)
        clip = tf.minimum(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        accept = tf.cast(accept, tf.float32)
        # Selected, not multiplied: `clip` is NaN where the norm is.
        factor = tf.where(accept > 0, clip / scale, 0.0)
        return Verdict(norm=norm, finite=tf.cast(finite, tf.float32), accept=accept, factor=factor)

    def _limit(self):
        """Largest gradient norm that is accepted."""
        limit = tf.constant(self.config.skip_norm or float("inf"))
        if self.config.skip_factor:
            mean = tf.convert_to_tensor(self.norm_mean)
            # Before the first accepted step there is no mean to compare with.
            limit = tf.where(mean > 0, tf.minimum(limit, self.config.skip_factor * mean), limit)
        return limit

    def update(self, verdict):
        """Counts a step and updates the loss scale and the mean norm; returns the entries for the report."""
        finite, accept = verdict.finite > 0, verdict.accept > 0
        skipped = finite & ~accept
        counts = {
            "num_nonfinite": tf.convert_to_tensor(self.num_nonfinite) + tf.cast(~finite, tf.int64),
            "num_skipped": tf.convert_to_tensor(self.num_skipped) + tf.cast(skipped, tf.int64),
            "nonfinite_in_a_row": _count_on(self.nonfinite_in_a_row, ~finite, finite),
            "skipped_in_a_row": _count_on(self.skipped_in_a_row, skipped, accept),
        }
        for name, value in counts.items():
            assign(getattr(self, name), value)
        mean = tf.convert_to_tensor(self.norm_mean)
        moved = tf.where(mean > 0, _NORM_MOMENTUM * mean + (1.0 - _NORM_MOMENTUM) * verdict.norm, verdict.norm)
        assign(self.norm_mean, tf.where(accept, moved, mean))
        report = {**counts, "gradient_norm": verdict.norm, "loss_scale": tf.convert_to_tensor(self.loss_scale)}
        if self.scales_loss:
            self._move_loss_scale(finite)
        return report

    def _move_loss_scale(self, finite):
        scale = tf.convert_to_tensor(self.loss_scale)
        steps = tf.where(finite, tf.convert_to_tensor(self.finite_steps) + 1, 0)
        grows = steps >= _GROWTH_STEPS
        fallen = tf.maximum(0.5 * scale, _LEAST_LOSS_SCALE)
        assign(self.loss_scale, tf.where(finite, tf.where(grows, 2.0 * scale, scale), fallen))
        assign(self.finite_steps, tf.where(grows, tf.zeros_like(steps), steps))

    def restart(self, learning_rate_factor):
        """Lowers the learning rate and resets the in-a-row counts after the run has gone back to a checkpoint."""
        self.learning_rate_factor.assign(learning_rate_factor)
        self.nonfinite_in_a_row.assign(0)
        self.skipped_in_a_row.assign(0)


def _count_on(variable, more, ends):
    count = tf.convert_to_tensor(variable)
    return tf.where(more, count + 1, tf.where(ends, tf.zeros_like(count), count))
