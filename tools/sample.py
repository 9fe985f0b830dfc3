r"""Draws images from a trained or converted model into one PNG.

python tools/sample.py --run_dir=runs/mnist --num=64 --temperature=0.7
"""

import math
import os
import sys

from absl import app, flags

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run: config.json and checkpoints/.", required=True)
flags.DEFINE_string("out", None, "PNG to write; RUN_DIR/samples.png if not given.")
flags.DEFINE_integer("num", 64, "Number of images.", lower_bound=1)
flags.DEFINE_float("temperature", 1.0, "Factor of every prior's scale.")
flags.DEFINE_integer("seed", 0, "Seed of the draw.", lower_bound=0)
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "Mean of the likelihood, or a draw from it.")
flags.DEFINE_string("step", None, "Step of the checkpoint, or best; the latest if not given.")
flags.DEFINE_bool("ema", True, "Use the moving average of the weights where the run keeps one.")

flags.register_validator(
    "run_dir",
    lambda path: path is None or os.path.isfile(os.path.join(path, "config.json")),
    message="expected a run folder with config.json",
)
flags.register_validator(
    "temperature",
    lambda value: value > 0.0 and math.isfinite(value),
    message="expected a positive, finite number",
)
flags.register_validator(
    "out",
    lambda path: path is None or (path.endswith(".png") and os.path.isdir(os.path.dirname(path) or ".")),
    message="expected a name ending in .png in an existing folder",
)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    from nvae_tf.evaluation.images import save_grid
    from nvae_tf.evaluation.sampling import sample_images
    from nvae_tf.run import load_run

    try:
        model = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    except (ValueError, OSError) as error:
        # These are what a wrong folder or step raises; their messages name it.
        sys.exit(f"sample.py: {error}")
    path = FLAGS.out or os.path.join(FLAGS.run_dir, "samples.png")
    save_grid(path, sample_images(model, FLAGS.num, FLAGS.temperature, FLAGS.seed, pixels=FLAGS.pixels))
    print(f"written: {path}")


if __name__ == "__main__":
    app.run(main)
