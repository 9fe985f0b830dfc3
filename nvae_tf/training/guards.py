"""What keeps a run alive: steps that would ruin it are left out, and float16 gradients are scaled."""

import typing

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign

_INITIAL_LOSS_SCALE = 2.0**10
_LEAST_LOSS_SCALE = 2.0**-14
_GROWTH_STEPS = 2000  # finite steps after which the scale doubles
_NORM_MOMENTUM = 0.99  # of the running mean of the gradient's norm


class Verdict(typing.NamedTuple):
    """What becomes of a step; float32 scalars.

    Attributes:
        norm: global norm of the gradient, without the loss scale and before clipping.
        finite, accept: 1 or 0.
        factor: of the gradient that the optimiser gets: loss scale taken off, clipped; 0 where not accepted.
    """

    norm: tf.Tensor
    finite: tf.Tensor
    accept: tf.Tensor
    factor: tf.Tensor


class Guards(keras.layers.Layer):
    """Judges each step by its loss and gradient, both already averaged over the replicas, so that all judge alike.

    An overflow of float16 counts as not finite like everything else; `Trainer.advance` then takes the step again.

    The decisions are numbers in the graph, not branches: a step that is left out multiplies by zero.

    Args:
        config: `TrainConfig`, resolved.

    Attributes:
        loss_scale: factor of the loss before its gradient; moves with `precision="mixed_float16"` alone (as in
            Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).
        learning_rate_factor: 1, or `recovery_learning_rate` after the run went back to a checkpoint.
        num_nonfinite, num_skipped: steps left out so far because they were not finite, and for their norm.
        nonfinite_in_a_row, skipped_in_a_row: the same since the last step taken.
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
        """The `Verdict` on a step.

        Args:
            loss: scalar, without the loss scale.
            gradients: list of tensors, of the loss times the loss scale.
        """
        config, scale = self.config, tf.convert_to_tensor(self.loss_scale)
        norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])) / scale
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        accept = finite
        if config.skip_norm or config.skip_factor:
            patient = tf.convert_to_tensor(self.skipped_in_a_row) < config.max_skipped_steps
            accept = finite & ~((norm > self._limit()) & patient)
        clip = tf.minimum(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        accept = tf.cast(accept, tf.float32)
        # Not a product: the clip of a norm that is not finite is not finite.
        factor = tf.where(accept > 0, clip / scale, 0.0)
        return Verdict(norm=norm, finite=tf.cast(finite, tf.float32), accept=accept, factor=factor)

    def _limit(self):
        """Largest norm of a step that is taken."""
        limit = tf.constant(self.config.skip_norm or float("inf"))
        if self.config.skip_factor:
            mean = tf.convert_to_tensor(self.norm_mean)
            # No mean yet: nothing to compare with.
            limit = tf.where(mean > 0, tf.minimum(limit, self.config.skip_factor * mean), limit)
        return limit

    def update(self, verdict):
        """Counts a step, and moves the loss scale and the mean of the norms; returns what to report of it."""
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
        """After the run went back to a checkpoint: a smaller learning rate, and the counts in a row anew."""
        self.learning_rate_factor.assign(learning_rate_factor)
        self.nonfinite_in_a_row.assign(0)
        self.skipped_in_a_row.assign(0)


def _count_on(variable, more, ends):
    count = tf.convert_to_tensor(variable)
    return tf.where(more, count + 1, tf.where(ends, tf.zeros_like(count), count))
