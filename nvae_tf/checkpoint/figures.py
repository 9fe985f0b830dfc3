"""The figures in a run folder: metrics.jsonl, with a line for each evaluation in training, and evaluation.json."""

import contextlib
import dataclasses
import json
import os
import pathlib

from nvae_tf.files import strict_json, write_json, write_text


class MetricsFile:
    """A file with one JSON object per line, each with its "step".

    Args:
        path: path of the file, which need not exist yet.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def read(self):
        """List of the lines' dicts, without a line that was cut short because the process was killed."""
        rows = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    rows.append(json.loads(line))
        return rows

    def append(self, row):
        """Appends a dict with "step" as one line and waits until it is on disk."""
        line = json.dumps(strict_json(row), allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, step):
        """Removes the lines of steps after `step`, because a run that resumes there writes them again."""
        if self.path.exists():
            rows = [row for row in self.read() if row["step"] <= step]
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))


def weights_in_words(averaged):
    """Which weights of a checkpoint a figure is for; `averaged` is `model.averaged` or "ema" of the context below."""
    return "moving average of the weights" if averaged else "weights as trained"


def evaluation_context(model, split, seed):
    """Everything that a likelihood depends on, as `{field: value}`; `model` is an `NVAE` from `nvae_tf.load_run`."""
    return {
        "dataset": model.config.data.dataset,
        "split": split,
        "step": model.restored_step,
        "seed": seed,
        "ema": model.averaged,
        "bit_depth": model.model_config.bit_depth,
    }


def write_evaluation(path, context, result):
    """Writes a `LikelihoodResult` and its `evaluation_context` to a JSON file and prints its path."""
    bits = {"nelbo_bits_per_dim": result.nelbo_bits_per_dim, "bound_bits_per_dim": result.bound_bits_per_dim}
    write_json(path, {**context, **dataclasses.asdict(result), **bits})
    print(f"written: {path}")


def read_evaluation(run_dir, model):
    """Contents of a run's evaluation.json, or None if it is missing or for other weights than the model's.

    Raises ValueError if the file is damaged.
    """
    path = pathlib.Path(run_dir) / "evaluation.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        same_weights = (values["step"], values["ema"]) == (model.restored_step, model.averaged)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected what tools/evaluate.py writes. Received: {error!r}") from error
    return values if same_weights else None
