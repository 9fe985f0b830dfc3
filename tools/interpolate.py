r"""Interpolates between images in latent space: a strip of images, and an animation there and back.

    python tools/interpolate.py
    python tools/interpolate.py --run_dir=runs/mnist --data_dir=data --images=3,17
    python tools/interpolate.py --run_dir=runs/mnist --data_dir=data --images=3,17,20,25 --animation=webp
    python tools/interpolate.py --run_dir=runs/mnist --seeds=1,2 --temperature=0.7

Without --run_dir it takes the model in saved_models/mnist, which ships with it, and without --images and --seeds
--seeds=1,2. Each pair has a row. The interpolation is spherical in the noise from which the prior makes each group's
latents; its ends are the reconstructions of the images, or the samples of the seeds.
"""

import numpy as np
from absl import flags

from nvae_tf.runs.families import require_folding
from nvae_tf.runs.starts import Starts, run_config
from tools.flags import (
    define_images,
    define_output,
    define_run,
    define_starts,
    define_statistics,
    define_temperature,
    run,
    use_shipped_run,
)

FLAGS = flags.FLAGS

define_run(required=False)
define_images()
define_starts(required=False)
flags.DEFINE_integer("frames", 16, "Number of images per pair, including both ends.", lower_bound=2, upper_bound=1000)
flags.DEFINE_integer("batch_size", 16, "Number of images decoded at once.", lower_bound=1)
flags.DEFINE_enum("animation", "gif", ["gif", "webp", "none"], "Format of the animation, beside the strip.")
flags.DEFINE_integer("milliseconds", 80, "Duration of each frame of the animation.", lower_bound=1)
define_temperature("Factor of the prior's scale, for --seeds.")
define_statistics()
_OUT = define_output("PNG of the strip, RUN_DIR/interpolation.png if not given; the animation is beside it.", ".png")

for _name in ("images", "seeds"):
    flags.register_validator(
        _name,
        lambda values: values is None or len(values) % 2 == 0,
        message="expected pairs: an even number of them",
    )


def main():
    use_shipped_run()
    from nvae_tf.evaluation.latents import interpolate
    from nvae_tf.evaluation.write_images import grid, save_animation, save_grid
    from nvae_tf.runs.load import load_folded

    path, config = _OUT("interpolation.png"), run_config(FLAGS.run_dir, FLAGS.step)
    require_folding(config, "--run_dir")
    starts = Starts(config, FLAGS)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature)
    noise, options = starts.noise(model), (FLAGS.frames, FLAGS.batch_size)
    rows = np.stack([interpolate(model, *pair, *options) for pair in zip(noise[::2], noise[1::2], strict=True)])
    save_grid(path, rows.reshape(-1, *rows.shape[2:]), FLAGS.frames)
    print(f"written: {path}")
    if FLAGS.animation != "none":
        path = path.with_suffix(f".{FLAGS.animation}")
        there = [grid(rows[:, frame]) for frame in range(FLAGS.frames)]
        save_animation(path, there + there[-2:0:-1], FLAGS.milliseconds)
        print(f"written: {path}")


if __name__ == "__main__":
    run(main)
