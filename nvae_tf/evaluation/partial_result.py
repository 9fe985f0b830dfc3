"""The scores that tools/evaluate.py has computed so far, kept in the run folder so that it can resume."""

import json
import time

from nvae_tf.files import new_file

_SAVE_SECONDS = 20.0


class PartialResult:
    """A file with the scores of the images evaluated so far.

    Args:
        path: `pathlib.Path` of the file, which need not exist.
        settings: dict of what the scores depend on; a file with other settings is ignored.
    """

    def __init__(self, path, settings):
        self.path, self.settings = path, json.dumps(settings, sort_keys=True)
        self._saved = time.monotonic()

    def load(self):
        """(`Scores`, number of batches they cover); empty ones and 0 where there is nothing to resume."""
        import numpy as np

        from nvae_tf.evaluation.likelihood import Scores

        try:
            with np.load(self.path) as file:
                arrays = dict(file)
            settings, batches = str(arrays.pop("settings")), int(arrays.pop("num_batches"))
        except Exception:  # missing, or damaged, which may raise nearly anything
            return Scores(), 0
        return (Scores(arrays), batches) if settings == self.settings else (Scores(), 0)

    def save(self, scores, num_batches):
        """Writes the scores, at most every 20 seconds."""
        import numpy as np

        if time.monotonic() - self._saved < _SAVE_SECONDS:
            return
        with new_file(self.path) as temporary:
            np.savez(temporary, settings=self.settings, num_batches=num_batches, **scores.arrays)
        self._saved = time.monotonic()
