"""Configuration of the optimisation, the objective, the guards and the output of a run."""

import dataclasses
import operator

from nvae_tf.config.validation import BELOW_ONE, NOT_NEGATIVE, POSITIVE, at_least, check_fields, one_of

CONVOLUTION_DTYPES = ("float32", "bfloat16")
# Type of the activations and convolutions for each precision.
PRECISIONS = {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
REMAT = ("none", "cells")
STAGES = ("joint", "autoencoder", "prior")
OPTIMIZERS = ("adamax", "adamax_uncorrected", "adam")
SCHEDULES = ("cosine", "constant", "exponential")
LEARNING_RATE_RULES = ("none", "sqrt", "linear")
# Guards that `stability` turns on unless they are set. "paper" is the published setting, whose only guard is to stop
# when the loss stays non-finite.
STABILITY = {
    "paper": {},
    "safe": {"skip_factor": 10.0, "ema_decay": 0.999, "recovery_learning_rate": 0.5},
}


@dataclasses.dataclass(slots=True)
class TrainConfig:
    """Optimisation and objective (paper appendix A), guards, and output of a run.

    Attributes:
        batch_size: images per replica and step. Default 32.
        num_replicas: number of replicas, over all workers, that the run requires; with 0 the run uses all that are
            available when it first starts and stores their number in its config.json. Default 0.
        epochs: number of passes over the training split, on which the schedules are based. Default 400.
        max_steps: stop after this many steps without changing the schedules; 0 for no limit. Default 0.
        stage: what a VQ-VAE-2 trains: `"joint"` for its autoencoder and priors at the same time, `"autoencoder"` for
            the former only, `"prior"` for the priors of the codes of `autoencoder_run`, which are computed once.
            Default `"joint"`.
        autoencoder_run: folder of the run whose autoencoder the stage `"prior"` takes; not read when a run resumes.
            Default `""`.
        optimizer: `"adamax"` as in NVAE and BIVA, `"adamax_uncorrected"` as in IAF-VAE, or `"adam"`; the formulas are
            in [training/optimizer.py](../training/optimizer.py). Default `"adamax"`.
        epsilon: epsilon of the optimiser. Default 1e-3.
        learning_rate: peak learning rate. Default 1e-2.
        min_learning_rate: final learning rate of the cosine, and least one of the exponential schedule. Default 1e-4.
        schedule: learning rate after the warm-up: `"cosine"`, `"constant"` or `"exponential"`. Default `"cosine"`.
        learning_rate_decay: factor of the learning rate in each step of the exponential schedule. Default 0.999999.
        learning_rate_rule: how both rates scale if the global batch is not `reference_batch_size`: `"none"`, `"sqrt"`
            (factor sqrt(global / reference)) or `"linear"` (factor global / reference). Default `"none"`.
        reference_batch_size: images per step, over all replicas, that the learning rate was chosen for; 0 if unknown.
            Default 0.
        warmup_epochs: epochs of linear warm-up from 0. Default 5.
        weight_decay: L2 decay added to the gradient of every parameter. Default 3e-4.
        kl_anneal_fraction: fraction of all steps over which the KL weight grows to 1. Default 0.3.
        kl_constant_fraction: fraction of all steps before the KL weight grows. Default 1e-4.
        kl_min_weight: minimum KL weight. Default 1e-4.
        regularization: lambda of the spectral and batch-norm terms. Default 1e-2.
        initial_regularization: initial lambda, annealed with the KL weight; 0 keeps lambda constant. Default 0.
        precision: type of the activations and convolutions: `"float32"`, `"mixed_float16"` (with a loss scale) or
            `"mixed_bfloat16"`. Weights, optimiser, statistics, KL and likelihood stay float32. Default `"float32"`.
        convolution_dtype: type of the arithmetic of dense convolutions only, `"float32"` or `"bfloat16"`; requires
            `precision="float32"`. Default `"float32"`.
        micro_batches: parts that a replica's batch is split into; their gradients are averaged, which takes less memory
            for the same step. Batch-norm statistics are those of each part. Default 1.
        remat: `"cells"` keeps only the input of each cell for the backward pass and recomputes the rest: much less
            memory, a slower step, the same gradients. Default `"none"`.
        stability: `"paper"`, or `"safe"`, which sets `skip_factor` to 10, `ema_decay` to 0.999 and
            `recovery_learning_rate` to 0.5 where they are 0. Default `"paper"`.
        clip_norm: gradients with a larger global norm are scaled down to this norm; 0 for never. Default 0.
        skip_norm: steps whose gradient has a larger global norm are skipped; 0 for never. Default 0.
        skip_factor: steps whose gradient norm exceeds the running mean by this factor are skipped; 0 for never.
            Default 0.
        max_skipped_steps: after this many consecutive skipped steps, the next one is taken regardless of its norm.
            Default 10.
        ema_decay: decay of the moving average of the weights, which evaluation, sampling and export then use; 0 for no
            average. Default 0.
        ema_warmup: whether that decay is smaller in the first updates, at most (1 + t) / (10 + t) in update t. Default
            True.
        max_nonfinite_steps: steps with a non-finite loss or gradient are skipped; after this many consecutive ones the
            run returns to its last checkpoint or stops. Default 20.
        recovery_learning_rate: factor below 1 by which the learning rate is multiplied when the run continues, once,
            from its last checkpoint; 0 to stop instead. Default 0.
        seed: seed of the initialisation, data order, augmentation and noise. Default 0.
        log_steps: steps between two log lines, and between two sets of TensorBoard scalars. Default 100.
        image_epochs: epochs between two sets of TensorBoard images; 0 for none. Default 1.
        eval_epochs: epochs between two evaluations on the held-out images; 0 for none. Default 1.
        eval_images: maximum number of held-out images in an evaluation during training; 0 for all. Default 0.
        checkpoint_epochs: epochs between two checkpoints. Default 1.
        checkpoint_steps: steps between two checkpoints within an epoch; 0 for none. Default 0.
        keep_checkpoints: number of latest checkpoints to keep. Default 3.
        milestone_epochs: epochs between two checkpoints that are kept forever; 0 for none. Default 0.
    """

    batch_size: int = 32
    num_replicas: int = 0
    epochs: int = 400
    max_steps: int = 0
    stage: str = "joint"
    autoencoder_run: str = ""
    optimizer: str = "adamax"
    epsilon: float = 1e-3
    learning_rate: float = 1e-2
    min_learning_rate: float = 1e-4
    schedule: str = "cosine"
    learning_rate_decay: float = 0.999999
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
    ema_warmup: bool = True
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
        """Type of the activations and convolutions: `"float32"`, `"float16"` or `"bfloat16"`."""
        return PRECISIONS[self.precision]

    def resolved(self):
        """A copy in which the guards of `stability` are set."""
        guards = {name: value for name, value in STABILITY[self.stability].items() if not getattr(self, name)}
        return dataclasses.replace(self, **guards)

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        rules = (
            (at_least(1), ("batch_size", "epochs", "log_steps", "checkpoint_epochs", "keep_checkpoints")),
            (at_least(1), ("micro_batches", "max_skipped_steps", "max_nonfinite_steps")),
            (at_least(0), ("max_steps", "image_epochs", "eval_epochs", "eval_images", "seed")),
            (at_least(0), ("num_replicas", "reference_batch_size", "checkpoint_steps", "milestone_epochs")),
            (POSITIVE, ("learning_rate", "epsilon", "kl_anneal_fraction")),
            (("above 0 and at most 1", lambda value: 0 < value <= 1), ("learning_rate_decay",)),
            (NOT_NEGATIVE, ("warmup_epochs", "min_learning_rate", "weight_decay", "regularization")),
            (NOT_NEGATIVE, ("initial_regularization", "kl_constant_fraction", "kl_min_weight")),
            (NOT_NEGATIVE, ("clip_norm", "skip_norm", "skip_factor")),
            (BELOW_ONE, ("ema_decay", "recovery_learning_rate")),
            (one_of(STAGES), ("stage",)),
            (one_of(OPTIMIZERS), ("optimizer",)),
            (one_of(SCHEDULES), ("schedule",)),
            (one_of(tuple(PRECISIONS)), ("precision",)),
            (one_of(CONVOLUTION_DTYPES), ("convolution_dtype",)),
            (one_of(REMAT), ("remat",)),
            (one_of(tuple(STABILITY)), ("stability",)),
            (one_of(LEARNING_RATE_RULES), ("learning_rate_rule",)),
        )
        check_fields(self, "train", rules)
        precision, batch_size, rule = self.precision, self.batch_size, self.learning_rate_rule
        divisor = (f"a divisor of batch_size = {batch_size}", lambda value: batch_size % value == 0)
        together = [(divisor, ("micro_batches",))]
        if precision != "float32":
            same = (f"'float32' with precision {precision!r}", lambda value: value == "float32")
            together += [(same, ("convolution_dtype",))]
        if self.stage == "prior":
            together += [(("the folder of a run with stage 'prior'", bool), ("autoencoder_run",))]
        elif self.autoencoder_run:
            together += [((f"'' with stage {self.stage!r}", operator.not_), ("autoencoder_run",))]
        if rule != "none":
            together += [((f"at least 1 with learning_rate_rule {rule!r}", bool), ("reference_batch_size",))]
        check_fields(self, "train", together)
        return self
