"""metrics.jsonl: one line for each evaluation of a run."""

import json
import math
import os
import pathlib


def _finite(value):
    """The value as strict JSON has it: null for what is not finite."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsFile:
    """A file of JSON objects, one a line, each with its "step".

    Args:
        path: of the file; it need not exist yet.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def read(self):
        """List of the lines' dicts; a line that a kill cut short is left out."""
        rows = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def append(self, row):
        """Adds a line, on the disk when this returns.

        Args:
            row: dict of numbers, words and lists of numbers, with "step".
        """
        line = json.dumps({name: _finite(value) for name, value in row.items()}, allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, step):
        """Removes the lines of later steps, which a run that goes on at `step` will write again."""
        rows = [row for row in self.read() if row["step"] <= step]
        if not self.path.exists():
            return
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(temporary, self.path)
