"""What evaluate.py has found so far, kept in the run's folder."""

import json
import os
import time

_SAVE_SECONDS = 20.0


class PartialResult:
    """Scores of the images done so far, in a file of the run folder, for the same command to go on with.

    Args:
        path: of the file.
        settings: dict of what the scores depend on; a file with others is not used.
    """

    def __init__(self, path, settings):
        self.path, self.settings = path, json.dumps(settings, sort_keys=True)
        self._saved = time.monotonic()

    def load(self):
        """(`Scores`, number of batches they are of); empty ones and 0 where there are none."""
        import numpy as np

        from nvae_tf.evaluation.likelihood import Scores

        try:
            with np.load(self.path) as file:
                arrays = dict(file)
        except Exception:  # none, or damaged, which can raise nearly anything
            return Scores(), 0
        settings, batches = str(arrays.pop("settings", "")), int(arrays.pop("num_batches", 0))
        return (Scores(arrays), batches) if settings == self.settings else (Scores(), 0)

    def save(self, scores, num_batches):
        """Writes the scores, not more often than every 20 seconds."""
        import numpy as np

        if time.monotonic() - self._saved < _SAVE_SECONDS:
            return
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez(file, settings=self.settings, num_batches=num_batches, **scores.arrays)
        os.replace(temporary, self.path)
        self._saved = time.monotonic()
