"""The scores that tools/evaluate.py has computed so far, in a file from which it can resume."""

import json

from nvae_tf.files import new_file


def save_scores(path, settings, scores, num_batches):
    """Writes `Scores` of some batches, with a dict of the settings they depend on."""
    import numpy as np

    with new_file(path) as temporary:
        np.savez(temporary, settings=json.dumps(settings, sort_keys=True), num_batches=num_batches, **scores.arrays)


def load_scores(path, settings):
    """(`Scores`, number of batches they cover); empty ones and 0 where no file has these settings."""
    import numpy as np

    from nvae_tf.evaluation.likelihood import Scores

    try:
        with np.load(path) as file:
            arrays = dict(file)
        found, num_batches = json.loads(str(arrays.pop("settings"))), int(arrays.pop("num_batches"))
    except Exception:  # missing, or damaged, which may raise nearly anything
        return Scores(), 0
    return (Scores(arrays), num_batches) if found == settings else (Scores(), 0)
