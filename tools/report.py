r"""Writes everything known about a run as one HTML page, which needs neither the network nor any other file.

    python tools/report.py runs/mnist --data_dir=data

writes runs/mnist/report.html: samples, reconstructions, interpolations, likelihood, KL of the groups, FID, curves,
speed, parameters and configuration. It shows what evaluate.py, fid.py and readjust_bn.py have written to the folder; a
section that has nothing to show names the command that fills it.
"""

import math
import os

from absl import app, flags

from nvae_tf.files import read_json, write_text
from tools.flags import define_checkpoint, define_data_dir, define_output, define_path, define_temperatures, run

FLAGS = flags.FLAGS

define_path("run_dir", None, "Run folder, with config.json and checkpoints/; may also be the only argument.")
_OUT = define_output("HTML file to write; RUN_DIR/report.html if not given.", ".html")
define_data_dir()
flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Images to reconstruct.")
define_temperatures("0.6,0.7,0.8,1.0", "Temperatures, with a grid of samples for each.")
flags.DEFINE_integer("num", None, "Samples in each grid; 64 if not given, or fewer for large images.", lower_bound=1)
flags.DEFINE_integer("num_reconstructions", 24, "Number of images to reconstruct.", lower_bound=2)
flags.DEFINE_integer("batch_size", 64, "Number of images processed at once.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of all noise.", lower_bound=0)
define_checkpoint()

_INTERPOLATIONS = 6


def count_parts(model):
    """`{part: (trained parameters, statistics)}` of the parts of a model."""
    counts = {}
    for variable in model.variables:
        part = variable.path.split("/")[1]
        trained, kept = counts.get(part, (0, 0))
        size = math.prod(variable.shape)
        counts[part] = (trained + size, kept) if variable.trainable else (trained, kept + size)
    return counts


def load_first_images(config, run_dir):
    """(images [N, H, W, C], ""), or (None, why there are none) if a --data_dir is needed and was not given."""
    from nvae_tf.runs.data_record import DataRecord
    from nvae_tf.runs.starts import first_images

    count = max(FLAGS.num_reconstructions, 2 * _INTERPOLATIONS)
    if FLAGS.data_dir is None and config.data.dataset != "digits":
        return None, f"The images of {config.data.dataset} are needed, and no folder with them was given:"
    where = (FLAGS.data_dir, FLAGS.split, count, FLAGS.seed, FLAGS.cache_dir)
    return first_images(config, *where, DataRecord(run_dir, FLAGS.accept_changed_data)), ""


def add_images(report, nvae, folder, images):
    """Draws the grids of the report; `images` are the first of the split, or None."""
    from nvae_tf.evaluation.report import grids
    from nvae_tf.evaluation.sampling import reconstruction_grid
    from nvae_tf.inference.model import refold

    model = refold(nvae)
    report.num_samples = FLAGS.num or grids.default_count(report.config.model.image_height)
    options = {"seed": FLAGS.seed, "batch_size": FLAGS.batch_size}
    temperatures = [float(value) for value in FLAGS.temperature]
    print(f"drawing {report.num_samples} images at each of the temperatures {', '.join(FLAGS.temperature)}", flush=True)
    report.samples = grids.samples(nvae, model, folder, temperatures, report.num_samples, **options)
    if nvae.folds:
        ends = None if images is None else images[: 2 * _INTERPOLATIONS]
        report.interpolations = grids.interpolations(model, ends, _INTERPOLATIONS, **options)
    if images is not None:
        images = images[: FLAGS.num_reconstructions]
        kind = "images, binarised at random" if report.config.data.binarize else "images"
        caption = f"The first {len(images)} {FLAGS.split} {kind}, each with the mean of p(x | z) to its right."
        report.reconstructions = reconstruction_grid(model, images, FLAGS.seed, columns=8), caption


def gather(run_dir):
    """The `Report` of a run."""
    from nvae_tf.checkpoint import RunFolder
    from nvae_tf.checkpoint.figures import MetricsFile
    from nvae_tf.evaluation.report.contents import Report
    from nvae_tf.evaluation.report.scalars import read_scalars
    from nvae_tf.layers.layer import without_values
    from nvae_tf.runs.families import make_model
    from nvae_tf.runs.load import load_run

    folder = RunFolder(run_dir)
    config = folder.config
    report = Report(
        run_dir=run_dir,
        config=config,
        evaluation=read_json(folder.path / "evaluation.json"),
        fid=read_json(folder.path / "fid.json"),
        changes=(read_json(folder.path / "data.json") or {}).get("changes", []),
        rows=MetricsFile(folder.path / "metrics.jsonl").read(),
        scalars=read_scalars(folder.path / "tensorboard"),
        counts=count_parts(without_values(lambda: make_model(config))),
    )
    # A run that has just begun has curves and no checkpoint yet, but a requested step must exist.
    if folder.steps() or FLAGS.step is not None:
        images, report.no_images = load_first_images(config, run_dir)
        model = load_run(run_dir, FLAGS.step, FLAGS.ema)
        report.step, report.averaged = model.restored_step, model.averaged
        add_images(report, model, folder.step_folder(report.step), images)
    return report


def main(words):
    given = [*words, *([FLAGS.run_dir] if FLAGS.run_dir else [])]
    if len(given) != 1 or not os.path.isfile(os.path.join(given[0], "config.json")):
        raise app.UsageError(f"expected one run folder with config.json. Received: {', '.join(given) or 'none'}")
    (FLAGS.run_dir,) = given
    path = _OUT("report.html")
    from nvae_tf.evaluation.report.page import made_from, render

    report = gather(FLAGS.run_dir)
    origin = made_from(f"{os.path.abspath(report.run_dir)}: {report.checkpoint}", FLAGS.seed)
    write_text(path, render(report, origin))
    print(f"written: {path} ({os.path.getsize(path) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main, takes_words=True)
