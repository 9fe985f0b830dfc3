"""Learning-rate schedule."""

import math

import tensorflow as tf


def learning_rate(step, steps_per_epoch, config):
    """Linear from 0 over the warm-up, by step; then a cosine stepped once an epoch.

    The cosine runs from `learning_rate` to `min_learning_rate` over epochs - warmup_epochs - 1.

    Args:
        step: scalar tensor or number.
        steps_per_epoch: steps of an epoch.
        config: `TrainConfig`.

    Returns:
        float32 scalar.
    """
    step = tf.cast(step, tf.float32)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    epoch = tf.floor(step / steps_per_epoch)
    length = max(config.epochs - config.warmup_epochs - 1, 1)
    progress = tf.clip_by_value((epoch - config.warmup_epochs) / length, 0.0, 1.0)
    low, high = config.min_learning_rate, config.learning_rate
    cosine = low + 0.5 * (high - low) * (1.0 + tf.cos(math.pi * progress))
    return tf.where(step < warmup_steps, high * step / max(warmup_steps, 1.0), cosine)
