"""A training program from preparation to its exit status, for train.py and quickstart.py."""

import contextlib
import sys

import tensorflow as tf
from absl import logging

from nvae_tf.checkpoint import CheckpointError
from nvae_tf.runs.data import reading_errors_end
from nvae_tf.runs.interruption import EXIT_STATUS
from nvae_tf.training.errors import NonFiniteLossError

# What TensorFlow raises where another process does not answer any more.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def run_program(program, interruption, prepare, **options):
    """Prepares a run and runs it; ends the program, with a message and a status of its own, where that fails.

    Args:
        program: name for the messages.
        interruption: `Interruption`, entered.
        prepare: function of nothing that gives a `TrainingRun`.
        **options: of `TrainingRun.run`.

    Returns:
        The `TrainingRun`, which has come to its end.
    """
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every strategy and every checkpoint otherwise
    with _told_clearly(program):
        try:
            run = prepare()
        except (ValueError, OSError) as error:
            # These are what wrong flags, files and folders raise; their messages name them.
            sys.exit(f"{program}: {error}")
        interruption.started = True
        run.run(**options)
    if run.trainer.stopped:
        sys.exit(EXIT_STATUS)
    return run


@contextlib.contextmanager
def _told_clearly(program):
    """Context in which what can happen to a run ends the program with a message instead of a traceback."""
    try:
        with reading_errors_end(program):
            yield
    except (NonFiniteLossError, CheckpointError, OSError) as error:
        sys.exit(f"{program}: {error}")
    except _LOST as error:
        sys.exit(f"{program}: another worker is gone, or the network to it: {_first_line(error)}")
    except tf.errors.ResourceExhaustedError as error:
        sys.exit(
            f"{program}: out of memory: {_first_line(error)}\nWhat helps: train.remat=cells, train.micro_batches, "
            "train.precision=mixed_float16, a smaller train.batch_size; tools/benchmark.py --estimate shows each."
        )


def _first_line(error):
    """What is wrong, without the graph that TensorFlow adds to it."""
    traceback = ("Graph execution", "Detected at", "Stack trace", "(most recent", " ", "File ")
    lines = [line for line in error.message.splitlines() if line.strip() and not line.startswith(traceback)]
    return lines[0] if lines else type(error).__name__
