"""Learning-rate schedule."""

import math

import tensorflow as tf


def batch_size_factor(config, global_batch_size):
    """Factor of the learning rate for the images of a step, all replicas together.

    Linear as in Goyal et al. 2017 (arXiv 1706.02677), or by the square root; 1 without `learning_rate_rule`.

    Args:
        config: `TrainConfig`.
        global_batch_size: images of a step.
    """
    if config.learning_rate_rule == "none":
        return 1.0
    ratio = global_batch_size / config.reference_batch_size
    return ratio if config.learning_rate_rule == "linear" else math.sqrt(ratio)


def learning_rate(step, steps_per_epoch, config, factor=1.0):
    """Linear from 0 over the warm-up, by step; then a cosine stepped once an epoch.

    The cosine runs from `learning_rate` to `min_learning_rate` over epochs - warmup_epochs - 1.

    Args:
        step: scalar tensor or number.
        steps_per_epoch: steps of an epoch.
        config: `TrainConfig`.
        factor: of both rates; see `batch_size_factor`. Default 1.

    Returns:
        float32 scalar.
    """
    step = tf.cast(step, tf.float32)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    epoch = tf.floor(step / steps_per_epoch)
    length = max(config.epochs - config.warmup_epochs - 1, 1)
    progress = tf.clip_by_value((epoch - config.warmup_epochs) / length, 0.0, 1.0)
    low, high = factor * config.min_learning_rate, factor * config.learning_rate
    cosine = low + 0.5 * (high - low) * (1.0 + tf.cos(math.pi * progress))
    return tf.where(step < warmup_steps, high * step / max(warmup_steps, 1.0), cosine)
