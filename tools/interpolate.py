r"""Goes from one image to another through the latents: a strip of pictures, and an animation there and back.

    python tools/interpolate.py --run_dir=runs/mnist --data_dir=data --images=3,17
    python tools/interpolate.py --run_dir=runs/mnist --data_dir=data --images=3,17,20,25 --animation=webp
    python tools/interpolate.py --run_dir=runs/mnist --seeds=1,2 --temperature=0.7

Each pair is a row. The way is spherical in the noise that the prior makes each group's latents from; its ends are the
reconstructions of the images, or the samples of the seeds.
"""

import os
import pathlib

import run_flags
from absl import flags

from nvae_tf.runs.starts import Starts, run_config

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.
from tools.flags import run

FLAGS = flags.FLAGS

run_flags.define_run()
run_flags.define_images()
run_flags.define_starts()
flags.DEFINE_integer("frames", 16, "Pictures of a pair, both ends included.", lower_bound=2, upper_bound=1000)
flags.DEFINE_integer("batch_size", 16, "Pictures that are decoded at once.", lower_bound=1)
flags.DEFINE_enum("animation", "gif", ["gif", "webp", "none"], "Kind of the animation, beside the strip.")
flags.DEFINE_integer("milliseconds", 80, "Time of each picture of the animation.", lower_bound=1)
run_flags.define_temperature("Factor of the prior's scale, for --seeds.")
run_flags.define_output("PNG of the strip, RUN_DIR/interpolation.png if not given; the animation is beside it.", ".png")

for _name in ("images", "seeds"):
    flags.register_validator(
        _name,
        lambda values: values is None or len(values) % 2 == 0,
        message="expected pairs: an even number of them",
    )


def pair_pictures(model, first, second, kernels):
    """Pictures [frames, h, w, C] from one image's noise to another's, lists of arrays [1, h, w, latent_channels]."""
    import numpy as np

    from nvae_tf.evaluation.interpolation import interpolate
    from nvae_tf.evaluation.latents import decode_noise

    fractions, size, parts = np.linspace(0.0, 1.0, FLAGS.frames), min(FLAGS.batch_size, FLAGS.frames), []
    ends = [eps[0] for eps in first], [eps[0] for eps in second]
    for start in range(0, FLAGS.frames, size):
        noise = interpolate(*ends, fractions[start : start + size])
        parts.append(decode_noise(model, noise, kernels=kernels, batch_size=size)[0])
    return np.concatenate(parts)


def work(model, starts):
    """Writes the strip and the animation."""
    import numpy as np

    from nvae_tf.evaluation.sampling import evaluated_kernels
    from nvae_tf.evaluation.write_images import grid, save_animation, save_grid

    kernels = evaluated_kernels(model)
    noise = starts.noise(model, kernels)
    pairs = list(zip(noise[::2], noise[1::2], strict=True))
    rows = np.stack([pair_pictures(model, first, second, kernels) for first, second in pairs])
    path = pathlib.Path(FLAGS.out or os.path.join(FLAGS.run_dir, "interpolation.png"))
    save_grid(path, rows.reshape(-1, *rows.shape[2:]), FLAGS.frames)
    print(f"written: {path}")
    if FLAGS.animation != "none":
        path = path.with_suffix(f".{FLAGS.animation}")
        there = [grid(rows[:, frame]) for frame in range(FLAGS.frames)]
        save_animation(path, there + there[-2:0:-1], FLAGS.milliseconds)
        print(f"written: {path}")


def main():
    from nvae_tf.runs.load import load_run

    starts = Starts(run_config(FLAGS.run_dir, FLAGS.step), FLAGS)
    model = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    work(model, starts)


if __name__ == "__main__":
    run(main)
