r"""Compares runs on the same data: their figures as a table, and an HTML page with their pictures.

    python tools/compare.py runs/nvae_mnist runs/iaf_vae_mnist --data_dir=data --num_samples=100

The runs may be of any families. The page needs neither the network nor any other file. Of evaluate.py's evaluation.json
in a run folder is taken what was computed as the flags say; the rest is computed. Runs whose training or evaluation
had other images are refused.
"""

import dataclasses
import math
import os
import pathlib
import statistics
import time

from absl import app, flags

from nvae_tf.files import write_text
from nvae_tf.hierarchy import SAMPLE_BITS
from nvae_tf.runs.data_record import check_same_data
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import indexed_batches, run_config
from tools.flags import define_images, define_output, define_temperature, run

FLAGS = flags.FLAGS

_OUT = define_output("HTML file to write; comparison.html if not given.", ".html")
define_images()
flags.DEFINE_integer(
    "num_samples", 1, "Number K of posterior samples per image.", lower_bound=1, upper_bound=2**SAMPLE_BITS - 1
)
flags.DEFINE_integer("batch_size", 100, "Number of images per batch.", lower_bound=1)
flags.DEFINE_integer("max_images", 0, "Evaluate only the first images; 0 for all.", lower_bound=0)
define_temperature("Temperature of the samples.")

_NUM_DRAWN = 64


def short_names(run_dirs):
    """The last parts of the paths, or the whole paths if two of those are the same."""
    names = [pathlib.Path(run_dir).resolve().name for run_dir in run_dirs]
    return names if len(set(names)) == len(names) else [str(run_dir) for run_dir in run_dirs]


def evaluation(run_dir, model, images):
    """Fields of a `LikelihoodResult`, from evaluation.json if that was made with these images, weights and flags."""
    from nvae_tf.checkpoint.figures import evaluation_context, read_evaluation
    from nvae_tf.data.batches import eval_batches
    from nvae_tf.evaluation.likelihood import evaluate

    wanted = evaluation_context(model, FLAGS.split, FLAGS.seed) | {"num_samples": FLAGS.num_samples}
    wanted |= {"num_images": len(images.good), "run_images": images.of_run}
    found = read_evaluation(run_dir, model) or {}
    if wanted.items() <= found.items():
        return found
    config = model.config
    batches = eval_batches(images, config.data, config.model.bit_depth, FLAGS.batch_size, FLAGS.seed)
    result = evaluate(model, batches, FLAGS.num_samples, FLAGS.seed, Progress(len(images)))
    return wanted | dataclasses.asdict(result)


def draw(model):
    """64 samples of the prior, and the seconds that they take once the model has been traced."""
    from nvae_tf.evaluation.sampling import sample_images

    for _ in range(2):
        start = time.perf_counter()
        samples = sample_images(model, _NUM_DRAWN, FLAGS.temperature, FLAGS.seed)
    return samples, time.perf_counter() - start


def measure(run_dir, name):
    """The `Entry` of a run."""
    from nvae_tf.evaluation.report.comparison import Entry
    from nvae_tf.evaluation.report.grids import default_count
    from nvae_tf.evaluation.report.scalars import read_scalars
    from nvae_tf.evaluation.sampling import reconstruction_grid
    from nvae_tf.evaluation.write_images import grid
    from nvae_tf.layers.layer import without_values
    from nvae_tf.runs.data import load_images
    from nvae_tf.runs.data_record import DataRecord
    from nvae_tf.runs.families import make_model
    from nvae_tf.runs.load import load_folded

    print(f"{name}:", flush=True)
    model = load_folded(run_dir)
    config, record = model.config, DataRecord(run_dir, FLAGS.accept_changed_data)
    images = load_images(config, FLAGS.data_dir, FLAGS.split, FLAGS.max_images, FLAGS.cache_dir, record)
    figures = evaluation(run_dir, model, images)
    samples, seconds = draw(model)
    count = default_count(config.model.image_height)
    _, originals = next(indexed_batches(images, config, min(count // 2, len(images)), FLAGS.seed))
    scalars = read_scalars(pathlib.Path(run_dir) / "tensorboard")
    rates = [scalar.value for scalar in scalars.get("train/images_per_second", ()) if scalar.value > 0]
    variables = without_values(lambda: make_model(config)).trainable_variables
    return Entry(
        name=name,
        config=config,
        step=model.restored_step,
        evaluation=figures,
        loss=scalars["train/loss"][-1].value if "train/loss" in scalars else None,
        parameters=sum(math.prod(variable.shape) for variable in variables),
        images_per_second=statistics.median(rates) if rates else None,
        draw_seconds=seconds,
        samples=grid(samples[:count]),
        reconstructions=reconstruction_grid(model, originals, FLAGS.seed, columns=8),
    )


def main(run_dirs):
    if len(run_dirs) < 2 or not all(os.path.isfile(os.path.join(run_dir, "config.json")) for run_dir in run_dirs):
        received = ", ".join(run_dirs) or "none"
        raise app.UsageError(f"expected at least two run folders with config.json. Received: {received}")
    check_same_data(run_dirs, [run_config(run_dir) for run_dir in run_dirs], FLAGS.split)
    path = _OUT() or pathlib.Path("comparison.html")
    from nvae_tf.evaluation.report.comparison import as_text, figures, incomparable, render
    from nvae_tf.evaluation.report.page import made_from

    entries = [measure(run_dir, name) for run_dir, name in zip(run_dirs, short_names(run_dirs), strict=True)]
    print("\n".join([as_text(figures(entries)), *(f"not comparable: {one}" for one in incomparable(entries))]))
    kind = "images, binarised at random" if entries[0].config.data.binarize else "images"
    captions = (
        f"Means of p(x | z), with z drawn from the prior at temperature {FLAGS.temperature:g}.",
        f"The first {FLAGS.split} {kind}, each with the mean of p(x | z) to its right.",
    )
    write_text(path, render(entries, captions, made_from(", ".join(map(os.path.abspath, run_dirs)), FLAGS.seed)))
    print(f"written: {path} ({os.path.getsize(path) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main, takes_words=True)
