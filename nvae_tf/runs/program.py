"""The one-line message with which a program ends when its user can fix the problem."""

import errno
import os
import re

# What TensorFlow says of a file, by any of its errors: that of a full disk is also that of a lack of memory.
_PROBLEMS = (re.escape(os.strerror(number)) for number in errno.errorcode if number != errno.ENOMEM)
_FILE_PROBLEM = re.compile(rf"(?:{{{{.*?}}}} )?(.+; (?:{'|'.join(_PROBLEMS)}))")


def one_line(error):
    """Returns the message with which a program ends because of an error; None if the error needs a traceback.

    Wrong flags, folders and files raise `ValueError` and `OSError`, missing packages `ImportError`; their messages name
    them. An unreadable image, a lost worker and a lack of memory raise TensorFlow errors.
    """
    if isinstance(error, (ValueError, OSError, ImportError)):
        return str(error)
    if type(error).__module__.startswith("tensorflow"):
        return _tensorflow_message(error)
    from nvae_tf.training.guards import NonFiniteLossError

    return str(error) if isinstance(error, NonFiniteLossError) else None


def _tensorflow_message(error):
    from tensorflow import errors

    first = _first_line(error)
    if isinstance(error, (errors.InvalidArgumentError, errors.UnknownError)):
        # The message contains a Python traceback, whose last line is the error raised while reading an image.
        raised = re.findall(r"^(?:\w+\.)*\w+Error: (.*)$", error.message, re.MULTILINE)
        if "Could not start gRPC server" in error.message:
            return "--workers: expected free ports. Received: the port of this worker is in use"
        if raised:
            return raised[-1]
    # What TensorFlow raises when another process no longer answers.
    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    if isinstance(error, lost):
        return f"another worker is gone, or the network to it: {first}"
    if file_problem := _FILE_PROBLEM.match(first):
        return file_problem[1]
    if isinstance(error, errors.ResourceExhaustedError):
        return (
            f"out of memory: {first}\nWhat helps: train.remat=cells, train.micro_batches, "
            "train.precision=mixed_float16, a smaller train.batch_size; tools/benchmark.py --estimate shows each."
        )
    return None


def _first_line(error):
    """The message of a TensorFlow error without the graph and the traceback that follow it."""
    traceback = ("Graph execution", "Detected at", "Stack trace", "(most recent", " ", "File ")
    lines = [line for line in error.message.splitlines() if line.strip() and not line.startswith(traceback)]
    return lines[0] if lines else type(error).__name__
