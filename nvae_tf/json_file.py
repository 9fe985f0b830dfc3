"""Figures of a program as a JSON file."""

import json
import math
import os


def write_json(path, values):
    """Writes a dict as strict JSON (NaN becomes null), to a temporary name first."""
    clean = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(clean, file, indent=2, allow_nan=False)
        file.write("\n")
    os.replace(temporary, path)
