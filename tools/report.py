r"""Writes all that is known of a run as one HTML page, which needs no network and no other file.

    python tools/report.py runs/mnist --data_dir=data

writes runs/mnist/report.html: samples, reconstructions, interpolations, likelihood, KL of the groups, FID, curves,
speed, parameters, configuration. What evaluate.py, fid.py and readjust_bn.py have written to the folder is shown; a
section that has nothing to show says what would fill it.
"""

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import sys

from absl import app, flags

from tools.flags import define_checkpoint, define_temperatures

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run: config.json and checkpoints/; or as the only argument.")
flags.DEFINE_string("out", None, "The page; RUN_DIR/report.html if not given.")
flags.DEFINE_string("data_dir", None, "Folder of the data set's files, for reconstructions; `digits` needs none.")
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which images are reconstructed.")
define_temperatures(["0.6", "0.7", "0.8", "1.0"], "Temperatures, one grid of samples each.")
flags.DEFINE_integer("num", None, "Samples in each grid; 64 if not given, fewer of large images.", lower_bound=1)
flags.DEFINE_integer("num_reconstructions", 24, "Images that are reconstructed.", lower_bound=2)
flags.DEFINE_integer("batch_size", 64, "Images at once.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of all draws.", lower_bound=0)
define_checkpoint()


flags.register_validator(
    "data_dir", lambda path: path is None or os.path.isdir(path), message="expected an existing folder"
)
flags.register_validator(
    "out",
    lambda path: path is None or (path.endswith(".html") and os.path.isdir(os.path.dirname(path) or ".")),
    message="expected a name ending in .html in an existing folder",
)

_INTERPOLATIONS = 6


def run_dir_of(arguments):
    """The run's folder, of the flag or the one argument; raises `app.UsageError`."""
    given = [*arguments, *([FLAGS.run_dir] if FLAGS.run_dir else [])]
    if len(given) != 1:
        raise app.UsageError(f"expected the run's folder, once. Received: {given or 'none'}")
    if not os.path.isfile(os.path.join(given[0], "config.json")):
        raise app.UsageError(f"expected a run folder with config.json. Received: {given[0]}")
    return given[0]


def read_json(path):
    """The dict of a JSON file, None where there is no such file; raises ValueError where it holds anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON. Received: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object. Received: {values!r:.80}")
    return values


def count_parts(model):
    """`{part: (trained parameters, batch-norm statistics)}` of the parts of a model."""
    counts = {}
    for variable in model.variables:
        part = variable.path.split("/")[1]
        trained, kept = counts.get(part, (0, 0))
        size = math.prod(variable.shape)
        counts[part] = (trained + size, kept) if variable.trainable else (trained, kept + size)
    return counts


def load_first_images(config):
    """(images [N, H, W, C], None), or (None, why there are none) where no --data_dir was given and one is needed."""
    from nvae_tf.evaluation.report import pictures as report_pictures
    from nvae_tf.runs.data import load_images

    count = max(FLAGS.num_reconstructions, 2 * _INTERPOLATIONS)
    try:
        images = load_images(config, FLAGS.data_dir, FLAGS.split, count)
    except ValueError:
        if FLAGS.data_dir is not None:
            raise
        return None, f"The images of {config.data.dataset} are needed, and no folder with them was given:"
    return report_pictures.first_images(images, config, count, FLAGS.seed), None


def add_pictures(report, model, folder):
    """Draws the report's pictures, all of one model."""
    from nvae_tf.evaluation.report import pictures as report_pictures

    height = report.config.model.image_height
    report.num_samples = FLAGS.num or report_pictures.default_count(height)
    options = {"seed": FLAGS.seed, "batch_size": FLAGS.batch_size}
    temperatures = [float(value) for value in FLAGS.temperature]
    print(f"drawing {report.num_samples} images at the temperatures {', '.join(FLAGS.temperature)}", flush=True)
    report.samples = report_pictures.samples(model, folder, temperatures, report.num_samples, **options)
    images, report.no_images = load_first_images(report.config)
    ends = None if images is None else images[: 2 * _INTERPOLATIONS]
    report.interpolations = report_pictures.interpolations(model, ends, _INTERPOLATIONS, **options)
    if images is not None:
        images = images[: FLAGS.num_reconstructions]
        kind = "images, binarised at random" if report.config.data.binarize else "images"
        caption = f"The first {len(images)} {FLAGS.split} {kind}, each with the mean of p(x | z) to its right."
        report.reconstructions = report_pictures.reconstructions(model, images, FLAGS.seed), caption


def gather(run_dir):
    """The `Report` of a run."""
    from nvae_tf.checkpoint import RunFolder
    from nvae_tf.checkpoint.figures import MetricsFile
    from nvae_tf.evaluation.report.data import Report
    from nvae_tf.evaluation.report.scalars import read_scalars
    from nvae_tf.models.nvae import shapes_only
    from nvae_tf.runs.load import load_run

    folder = RunFolder(run_dir)
    report = Report(run_dir=run_dir, config=folder.config)
    report.evaluation = read_json(folder.path / "evaluation.json")
    report.fid = read_json(folder.path / "fid.json")
    report.rows = MetricsFile(folder.path / "metrics.jsonl").read()
    report.scalars = read_scalars(folder.path / "tensorboard")
    report.counts = count_parts(shapes_only(report.config.model))
    # A run that has only begun has curves and no checkpoint yet; a step that was asked for must be there.
    if folder.steps() or FLAGS.step is not None:
        model = load_run(run_dir, FLAGS.step, FLAGS.ema)
        report.step, report.averaged = model.restored_step, model.averaged
        add_pictures(report, model, folder.step_folder(report.step))
    return report


def made_from(report):
    """When and from what the page was made, as a sentence."""
    import keras
    import tensorflow as tf

    now = datetime.datetime.now(datetime.UTC)
    versions = (
        f"nvae_tf {importlib.metadata.version('nvae_tf')}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    return (
        f"Made on {now:%Y-%m-%d at %H:%M} UTC from {os.path.abspath(report.run_dir)}: {report.checkpoint}; "
        f"seed {FLAGS.seed}. {versions}."
    )


def main(argv):
    run_dir = run_dir_of(argv[1:])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    from nvae_tf.evaluation.report.sections import render
    from nvae_tf.runs.data import reading_errors_end

    try:
        with reading_errors_end("report.py"):
            report = gather(run_dir)
    except (ValueError, OSError) as error:
        # These are what a wrong folder, file or step raises; their messages name it.
        sys.exit(f"report.py: {error}")
    path = pathlib.Path(FLAGS.out or os.path.join(run_dir, "report.html"))
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(render(report, made_from(report)), encoding="utf-8")
    os.replace(temporary, path)
    print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    app.run(main)
