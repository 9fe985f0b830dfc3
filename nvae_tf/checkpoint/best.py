"""The mark of the best checkpoint: a file with its step and its negative ELBO."""

import json

from absl import logging

from nvae_tf.files import write_text


def read_best(path, steps):
    """`{"step": ..., "nelbo": ...}`, or None where there is no mark.

    Args:
        path: of the file.
        steps: those with a checkpoint. A mark of another, like one that cannot be read, is a warning and None.
    """
    try:
        values = json.loads(path.read_text())
        best = {"step": int(values["step"]), "nelbo": float(values["nelbo"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logging.warning("%s: expected a step and a nelbo. Received: %r", path, error)
        return None
    if best["step"] not in steps:
        logging.warning("%s: expected a step with a checkpoint, one of %s. Received: %s", path, steps, best["step"])
        return None
    return best


def write_best(path, step, nelbo):
    """Writes the mark, or replaces it."""
    write_text(path, json.dumps({"step": int(step), "nelbo": nelbo}))
