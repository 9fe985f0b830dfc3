r"""Estimates the likelihood of a data set under a trained or converted model.

    python tools/evaluate.py --run_dir=runs/mnist --data_dir=data --num_samples=100

prints the NELBO, the importance-weighted bound and the KL of each group, and writes them to RUN_DIR/evaluation.json.
After an interruption the same command resumes. The noise of an image depends only on the seed and its position in the
data set: batch size, rows at once and devices change the figures only by rounding.
"""

import json
import sys
import time

import numpy as np
from absl import flags

from nvae_tf.files import new_file, only_writer
from nvae_tf.hierarchy import SAMPLE_BITS
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import run_config
from tools.flags import chosen_strategy, define_devices, define_images, define_output, define_run, run, run_images

FLAGS = flags.FLAGS

_SAVE_SECONDS = 20.0

define_run()
define_images()
flags.DEFINE_integer(
    "num_samples", 1, "Number K of posterior samples per image.", lower_bound=1, upper_bound=2**SAMPLE_BITS - 1
)
flags.DEFINE_integer("batch_size", 100, "Number of images per batch.", lower_bound=1)
flags.DEFINE_integer(
    "max_rows",
    0,
    "Images times samples that are decoded at once, which bounds the memory; 0 for the batch size.",
    lower_bound=0,
)
_OUT = define_output("JSON file of the result; RUN_DIR/evaluation.json if not given.", ".json")
flags.DEFINE_integer("max_images", 0, "Evaluate only the first images; 0 for all.", lower_bound=0)
define_devices()


def format_table(result):
    """Formats a `LikelihoodResult` as the lines to print."""

    def row(name, nats, error, bits):
        return f"{name:<28}{nats:>14.4f} +- {error:<10.4f}{bits:>14.5f}"

    bound = f"-log p(x) bound, K={result.num_samples}"
    lines = [
        f"{'':<28}{'nats':>14}{'':<14}{'bits/dim':>14}",
        row("NELBO", result.nelbo, result.nelbo_standard_error, result.nelbo_bits_per_dim),
        row(bound, result.nll_bound, result.nll_bound_standard_error, result.bound_bits_per_dim),
        f"{'reconstruction log p(x|z)':<28}{result.reconstruction:>14.4f}",
        f"{'KL':<28}{result.kl:>14.4f}",
        "",
        f"{'group':<8}{'KL (nats)':>14}{'active channels':>18}",
    ]
    for group, (kl, active) in enumerate(zip(result.kl_per_group, result.active_units, strict=True)):
        lines.append(f"{group:<8}{kl:>14.4f}{active:>18}")
    return "\n".join(lines)


def load_scores(path, settings):
    """(arrays of `Scores`, number of batches they cover); None and 0 if no file was saved with these settings."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        found, num_batches = json.loads(str(arrays.pop("settings"))), int(arrays.pop("num_batches"))
    except Exception:  # missing, or damaged, which may raise nearly anything
        return None, 0
    return (arrays, num_batches) if found == settings else (None, 0)


def evaluate_all(model, images, strategy, settings, path):
    """`LikelihoodResult` of all images; saves to `path`, unless it is None, to resume with the same settings."""
    from nvae_tf.data.batches import eval_batches
    from nvae_tf.evaluation.likelihood import Scores, evaluate

    config, progress, saved = model.config, Progress(len(images)), time.monotonic()
    arrays, done = load_scores(path, settings)
    scores = Scores(arrays)
    if done:
        print(f"resuming after {scores.num_images} images", flush=True)
    batches = eval_batches(images, config.data, config.model.bit_depth, FLAGS.batch_size, FLAGS.seed).skip(done)

    def after_batch(num_images):
        nonlocal done, saved
        done += 1
        if path and time.monotonic() - saved > _SAVE_SECONDS:
            try:
                with new_file(path) as temporary:
                    np.savez(temporary, settings=json.dumps(settings), num_batches=done, **scores.arrays)
            except OSError as error:  # a disk that is full now is no reason to lose the result
                print(f"warning: {path}: not written: {error}", file=sys.stderr, flush=True)
            saved = time.monotonic()
        progress(num_images)

    return evaluate(model, batches, FLAGS.num_samples, FLAGS.seed, after_batch, FLAGS.max_rows, scores, strategy)


def evaluate_run(path):
    """Evaluates the run that the flags name, and writes the result to a path unless it is None."""
    from nvae_tf.checkpoint.figures import evaluation_context, weights_in_words, write_evaluation
    from nvae_tf.runs.load import load_folded
    from nvae_tf.runs.provenance import weights

    config, strategy = run_config(FLAGS.run_dir, FLAGS.step), chosen_strategy()
    images = run_images(config, FLAGS.max_images)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema, strategy=strategy)
    which = f"step {model.restored_step}, {weights_in_words(model.averaged)}"
    print(f"{model.config.data.dataset} {FLAGS.split}: {len(images)} images, {which}", flush=True)
    context = evaluation_context(model, FLAGS.split, FLAGS.seed) | {"run_images": images.of_run}
    settings = {"images": len(images), "samples": FLAGS.num_samples, "batch": FLAGS.batch_size}
    settings |= {"source": images.source, "weights": weights(FLAGS.run_dir, model)}
    partial = path and path.with_suffix(".partial.npz")
    result = evaluate_all(model, images, strategy, context | settings, partial)
    print(format_table(result), flush=True)
    if path:
        write_evaluation(path, context, result)
        partial.unlink(missing_ok=True)


def main():
    path = _OUT("evaluation.json", optional=True)
    if path is None:
        evaluate_run(None)
        return
    with only_writer(path.parent, f"{path.stem}.lock", written=f"--out={path}"):
        evaluate_run(path)


if __name__ == "__main__":
    run(main)
