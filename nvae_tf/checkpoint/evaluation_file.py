"""RUN_DIR/evaluation.json: the likelihood of a data set, for report.py and the cards of exports."""

import dataclasses
import pathlib

from nvae_tf.json_file import write_json


def evaluation_context(model, split, seed, active_threshold):
    """What a likelihood is of: `{field: value}`.

    Args:
        model: `NVAE` as `nvae_tf.load_run` gives it.
        split: of the data set.
        seed: of the noise.
        active_threshold: KL above which a latent channel is active, nats.
    """
    return {
        "dataset": model.config.data.dataset,
        "split": split,
        "step": model.restored_step,
        "seed": seed,
        "ema": model.averaged,
        "active_threshold": active_threshold,
        "bit_depth": model.model_config.bit_depth,
    }


def write_evaluation(run_dir, context, result):
    """Writes the file and prints its path.

    Args:
        run_dir: folder of the run.
        context: as of `evaluation_context`.
        result: `LikelihoodResult`.
    """
    path = pathlib.Path(run_dir) / "evaluation.json"
    bits = {"nelbo_bits_per_dim": result.nelbo_bits_per_dim, "bound_bits_per_dim": result.bound_bits_per_dim}
    write_json(path, {**context, **dataclasses.asdict(result), **bits})
    print(f"written: {path}")
