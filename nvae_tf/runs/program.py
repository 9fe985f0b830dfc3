"""What ends a program: one line for what its user can mend, and the exit status of a training that was stopped."""

import re
import sys

from nvae_tf.runs.interruption import EXIT_STATUS


def one_line(error):
    """The message that a program ends with because of an error; None for an error that needs a traceback.

    Wrong flags, folders and files raise `ValueError` and `OSError`, missing packages `ImportError`; their messages name
    them. An image that cannot be read, a lost worker and too little memory come as errors of TensorFlow.
    """
    from nvae_tf.training.errors import NonFiniteLossError

    if isinstance(error, (ValueError, OSError, ImportError, NonFiniteLossError)):
        return str(error)
    if not type(error).__module__.startswith("tensorflow"):
        return None
    return _tensorflow_message(error)


def _tensorflow_message(error):
    import tensorflow as tf

    errors = tf.errors
    if isinstance(error, (errors.InvalidArgumentError, errors.UnknownError)):
        # The last line of the Python traceback in it: what reading an image raised.
        raised = re.findall(r"^(?:\w+\.)*\w+Error: (.*)$", error.message, re.MULTILINE)
        return raised[-1] if raised else None
    # What TensorFlow raises where another process does not answer any more.
    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    if isinstance(error, lost):
        return f"another worker is gone, or the network to it: {_first_line(error)}"
    if isinstance(error, errors.ResourceExhaustedError):
        return (
            f"out of memory: {_first_line(error)}\nWhat helps: train.remat=cells, train.micro_batches, "
            "train.precision=mixed_float16, a smaller train.batch_size; tools/benchmark.py --estimate shows each."
        )
    return None


def _first_line(error):
    """What is wrong, without the graph that TensorFlow adds to it."""
    traceback = ("Graph execution", "Detected at", "Stack trace", "(most recent", " ", "File ")
    lines = [line for line in error.message.splitlines() if line.strip() and not line.startswith(traceback)]
    return lines[0] if lines else type(error).__name__


def train(prepare, interruption, **options):
    """Prepares a run and trains it; exits with status 75 where it was stopped before its end.

    Args:
        prepare: function of no arguments that returns a `TrainingRun`.
        interruption: `Interruption`, entered.
        **options: of `TrainingRun.run`.

    Returns:
        The `TrainingRun`, which has come to its end.
    """
    run = prepare()
    interruption.started = True
    run.run(**options)
    if run.trainer.stopped:
        sys.exit(EXIT_STATUS)
    return run
