"""Why a run does not go on."""

_TERMS = ("loss", "reconstruction", "kl", "spectral", "batch_norm", "kl_weight", "regularization", "learning_rate")


class NonFiniteLossError(ArithmeticError):
    """Loss or gradient were NaN or infinite for too many steps in a row; the message says what helps."""

    def __init__(self, step, report):
        terms = ", ".join(f"{name} {float(report[name]):.6g}" for name in (*_TERMS, "gradient_norm", "loss_scale"))
        count = int(report["nonfinite_in_a_row"])
        super().__init__(
            f"Loss or gradient are not finite at step {step}, for {count} steps in a row: {terms}. What helps, in "
            "a new run: a larger train.regularization, train.initial_regularization (lambda annealed from a larger "
            "value), a smaller train.learning_rate, train.stability=safe, train.precision=float32; in this one: "
            "train.recovery_learning_rate=0.5, which goes back to a checkpoint with a smaller learning rate."
        )


class Interrupted(Exception):
    """Work between steps was given up because the run is asked to stop."""
