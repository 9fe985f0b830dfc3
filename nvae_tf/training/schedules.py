"""Schedules of the learning rate, the weight of the KL term and the weight of the regularisers.

`step` is a scalar tensor or a number, `config` a `TrainConfig`; the results are float32 scalars.
"""

import math

import tensorflow as tf


def batch_size_factor(config, global_batch_size):
    """Factor by which `learning_rate_rule` scales the learning rate for a batch size.

    Linear as in Goyal et al. 2017 (arXiv 1706.02677), the square root, or always 1.
    """
    if config.learning_rate_rule == "none":
        return 1.0
    ratio = global_batch_size / config.reference_batch_size
    return ratio if config.learning_rate_rule == "linear" else math.sqrt(ratio)


def learning_rate(step, steps_per_epoch, config, factor=1.0):
    """Learning rate: a linear warm-up from 0, updated every step, then `config.schedule`.

    - `"cosine"` runs from `learning_rate` to `min_learning_rate` over epochs - warmup_epochs - 1, and is updated once
      an epoch.
    - `"constant"` stays at `learning_rate`.
    - `"exponential"` is `learning_rate` times `learning_rate_decay` to the power of the step, at least
      `min_learning_rate`.

    `factor` multiplies both rates; see `batch_size_factor`.
    """
    step = tf.cast(step, tf.float32)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    low, high = factor * config.min_learning_rate, factor * config.learning_rate
    if config.schedule == "cosine":
        epoch = tf.floor(step / steps_per_epoch)
        length = max(config.epochs - config.warmup_epochs - 1, 1)
        progress = tf.clip_by_value((epoch - config.warmup_epochs) / length, 0.0, 1.0)
        rate = low + 0.5 * (high - low) * (1.0 + tf.cos(math.pi * progress))
    elif config.schedule == "exponential":
        # A power of a number so close to 1 would lose most of its digits in float32.
        rate = tf.maximum(high * tf.exp(step * math.log(config.learning_rate_decay)), low)
    else:
        rate = high
    return tf.where(step < warmup_steps, high * step / max(warmup_steps, 1.0), rate)


def kl_weight(step, total_steps, config):
    """Weight of the KL term, which is annealed from `kl_min_weight` to 1 (paper section 3.2).

    max(min((step - constant) / anneal, 1), kl_min_weight), where `constant` and `anneal` are the fractions
    `kl_constant_fraction` and `kl_anneal_fraction` of all steps.
    """
    step = tf.cast(step, tf.float32)
    anneal, constant = config.kl_anneal_fraction * total_steps, config.kl_constant_fraction * total_steps
    return tf.maximum(tf.minimum((step - constant) / anneal, 1.0), config.kl_min_weight)


def regularization_weight(weight, config):
    """lambda, the weight of the spectral and the batch-norm regulariser.

    Constant, or with `initial_regularization` annealed geometrically to `regularization` along with the KL weight w:
    exp((1 - w) log initial + w log final).
    """
    initial, final = config.initial_regularization, config.regularization
    if not initial or not final:
        return tf.constant(final, tf.float32)
    weight = tf.cast(weight, tf.float32)
    return tf.exp((1.0 - weight) * math.log(initial) + weight * math.log(final))
