"""Optimisation, objective, guards and what a run writes."""

import dataclasses
import math

from nvae_tf.config.validation import require, require_at_least

CONVOLUTION_DTYPES = ("float32", "bfloat16")
# The type of activations and of the convolutions' arithmetic, by the name of the precision.
PRECISIONS = {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
REMAT = ("none", "cells")
LEARNING_RATE_RULES = ("none", "sqrt", "linear")
# What `stability` sets where a guard is off. "paper" is the published run: no guard but the stop on a loss that stays
# non-finite.
STABILITY = {
    "paper": {},
    "safe": {"skip_factor": 10.0, "ema_decay": 0.999, "recovery_learning_rate": 0.5},
}


@dataclasses.dataclass(slots=True)
class TrainConfig:
    """Optimisation and objective (paper appendix A), guards, and what a run writes.

    Attributes:
        batch_size: images per replica and step. Default 32.
        num_replicas: replicas, of all workers together, that the run takes; 0 for those that are there at its first
            start, whose number the run's config.json then holds. Default 0.
        epochs: passes over the training split that the schedules are made for. Default 400.
        max_steps: stop after this many steps, the schedules unchanged; 0 for no limit. Default 0.
        learning_rate: peak learning rate of Adamax. Default 1e-2.
        min_learning_rate: where the cosine ends. Default 1e-4.
        learning_rate_rule: what another global batch than `reference_batch_size` does to both rates: `"none"`,
            `"sqrt"` (factor sqrt(global / reference)) or `"linear"` (global / reference). Default `"none"`.
        reference_batch_size: images of a step, all replicas together, that the learning rate was chosen for; 0 where
            there is none. Default 0.
        warmup_epochs: epochs of linear warm-up from 0. Default 5.
        weight_decay: L2 decay added to the gradient of every parameter. Default 3e-4.
        kl_anneal_fraction: part of all steps over which the KL weight grows to 1. Default 0.3.
        kl_constant_fraction: part of all steps before the KL weight grows. Default 1e-4.
        kl_min_weight: least KL weight. Default 1e-4.
        regularization: lambda of the spectral and batch-norm terms. Default 1e-2.
        initial_regularization: where lambda starts when annealed with the KL weight; 0 keeps it constant. Default 0.
        precision: `"float32"`, `"mixed_float16"` (with a loss scale) or `"mixed_bfloat16"`: the type of activations
            and convolutions; weights, optimiser, statistics, KL and likelihood stay float32. Default `"float32"`.
        convolution_dtype: type of the dense convolutions' arithmetic alone, `"float32"` or `"bfloat16"`; all else
            stays float32. Only with `precision="float32"`. Default `"float32"`.
        micro_batches: parts that a replica's batch is split into, one after the other, their gradients averaged: less
            memory for the same step. Batch-norm statistics are those of each part. Default 1.
        remat: `"cells"` keeps only the input of each cell for the backward pass and computes the rest again: much
            less memory for a slower step, the same gradients. Default `"none"`.
        stability: `"paper"`, or `"safe"`: guards that are off are set to `skip_factor` 10, `ema_decay` 0.999 and
            `recovery_learning_rate` 0.5. Default `"paper"`.
        clip_norm: largest global norm of the gradient; a larger one is scaled down. 0 for none. Default 0.
        skip_norm: a step whose gradient has a larger global norm is left out. 0 for none. Default 0.
        skip_factor: a step whose gradient has a norm of more than this many times the running mean of the norms is
            left out. 0 for none. Default 0.
        max_skipped_steps: after so many left out in a row for their norm, one is taken all the same. Default 10.
        ema_decay: decay of the moving average of the weights, which evaluation, sampling and export then use. 0 for
            none. Default 0.
        max_nonfinite_steps: a step whose loss or gradient is not finite is left out; after so many in a row the run
            goes back to its last checkpoint or stops. Default 20.
        recovery_learning_rate: factor of the learning rate with which the run goes on, once, from its last
            checkpoint, below 1; 0 to stop instead. Default 0.
        seed: of initialisation, data order, augmentation and noise. Default 0.
        log_steps: steps between two lines of the log and TensorBoard scalars. Default 100.
        image_epochs: epochs between two sets of TensorBoard images; 0 for none. Default 1.
        eval_epochs: epochs between two evaluations on the held-out images; 0 for none. Default 1.
        eval_images: most held-out images an evaluation in training looks at; 0 for all. Default 0.
        checkpoint_epochs: epochs between two checkpoints. Default 1.
        checkpoint_steps: steps between two checkpoints within an epoch; 0 for none. Default 0.
        keep_checkpoints: how many of the last checkpoints are kept. Default 3.
        milestone_epochs: epochs between two checkpoints that are kept for good; 0 for none. Default 0.
    """

    batch_size: int = 32
    num_replicas: int = 0
    epochs: int = 400
    max_steps: int = 0
    learning_rate: float = 1e-2
    min_learning_rate: float = 1e-4
    learning_rate_rule: str = "none"
    reference_batch_size: int = 0
    warmup_epochs: float = 5.0
    weight_decay: float = 3e-4
    kl_anneal_fraction: float = 0.3
    kl_constant_fraction: float = 1e-4
    kl_min_weight: float = 1e-4
    regularization: float = 1e-2
    initial_regularization: float = 0.0
    precision: str = "float32"
    convolution_dtype: str = "float32"
    micro_batches: int = 1
    remat: str = "none"
    stability: str = "paper"
    clip_norm: float = 0.0
    skip_norm: float = 0.0
    skip_factor: float = 0.0
    max_skipped_steps: int = 10
    ema_decay: float = 0.0
    max_nonfinite_steps: int = 20
    recovery_learning_rate: float = 0.0
    seed: int = 0
    log_steps: int = 100
    image_epochs: int = 1
    eval_epochs: int = 1
    eval_images: int = 0
    checkpoint_epochs: int = 1
    checkpoint_steps: int = 0
    keep_checkpoints: int = 3
    milestone_epochs: int = 0

    @property
    def compute_dtype(self):
        """Type of activations and convolutions: `"float32"`, `"float16"` or `"bfloat16"`."""
        return PRECISIONS[self.precision]

    def resolved(self):
        """A copy in which `stability` has set the guards that are off."""
        guards = {name: value for name, value in STABILITY[self.stability].items() if not getattr(self, name)}
        return dataclasses.replace(self, **guards)

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        at_least = (
            (1, ("batch_size", "epochs", "log_steps", "checkpoint_epochs", "keep_checkpoints", "micro_batches")),
            (1, ("max_skipped_steps", "max_nonfinite_steps")),
            (0, ("max_steps", "warmup_epochs", "image_epochs", "eval_epochs", "eval_images", "seed")),
            (0, ("num_replicas", "reference_batch_size", "checkpoint_steps", "milestone_epochs")),
        )
        for least, names in at_least:
            require_at_least(self, "train", least, *names)
        for name in ("learning_rate", "kl_anneal_fraction"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"train.{name}", value, "a positive number")
        non_negative = ("min_learning_rate", "weight_decay", "regularization", "initial_regularization")
        guards = ("clip_norm", "skip_norm", "skip_factor")
        for name in (*non_negative, "kl_constant_fraction", "kl_min_weight", *guards):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"train.{name}", value, "zero or a positive number")
        for name in ("ema_decay", "recovery_learning_rate"):
            value = getattr(self, name)
            require(0 <= value < 1, f"train.{name}", value, "at least 0 and below 1")
        for name, choices in (
            ("precision", tuple(PRECISIONS)),
            ("convolution_dtype", CONVOLUTION_DTYPES),
            ("remat", REMAT),
            ("stability", tuple(STABILITY)),
            ("learning_rate_rule", LEARNING_RATE_RULES),
        ):
            require(getattr(self, name) in choices, f"train.{name}", getattr(self, name), f"one of {choices}")
        self._validate_together()
        return self

    def _validate_together(self):
        require(
            self.precision == "float32" or self.convolution_dtype == "float32",
            "train.convolution_dtype",
            self.convolution_dtype,
            f"'float32' with precision {self.precision!r}",
        )
        require(
            self.batch_size % self.micro_batches == 0,
            "train.micro_batches",
            self.micro_batches,
            f"a divisor of batch_size = {self.batch_size}",
        )
        require(
            self.learning_rate_rule == "none" or self.reference_batch_size,
            "train.reference_batch_size",
            self.reference_batch_size,
            f"at least 1 with learning_rate_rule {self.learning_rate_rule!r}",
        )
