r"""Shows what one group, scale or channel of the latents does: it changes, all the others stay.

    python tools/traverse.py --run_dir=runs/mnist --data_dir=data --images=0,1,2 --group=4
    python tools/traverse.py --run_dir=runs/mnist --seeds=1,2,3 --scale=0 --temperature=0.7
    python tools/traverse.py --run_dir=runs/mnist --seeds=1,2,3 --group=0 --channel=2

A row for each image: as it is, then with fresh draws of the noise that the prior makes the chosen groups' latents from,
or with one channel of that noise set to -3 ... 3 everywhere. The noise of the other groups stays; what the priors make
of it in later groups follows what was changed.
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
flags.DEFINE_integer("group", None, "Group that changes, in generation order from 0.", lower_bound=0)
flags.DEFINE_integer("scale", None, "Scale whose groups change, from 0, the coarsest.", lower_bound=0)
flags.mark_flags_as_mutual_exclusive(["group", "scale"], required=True)
flags.DEFINE_integer("channel", None, "Latent channel that is set to -3 ... 3, in the place of draws.", lower_bound=0)
flags.DEFINE_integer("columns", 8, "Pictures in a row, the unchanged one included.", lower_bound=2, upper_bound=1000)
flags.DEFINE_integer("batch_size", 8, "Pictures that are decoded at once.", lower_bound=1)
run_flags.define_temperature("Factor of the prior's scale, for draws and for --seeds.")
run_flags.define_output("PNG; RUN_DIR/traversal.png if not given.", ".png")

_LARGEST = 3.0


def chosen_groups(config, group, scale, channel):
    """The groups that change.

    Args:
        config: `ModelConfig`.
        group, scale: index of the group, or of the scale; the other None.
        channel: of the latents, or None.

    Returns:
        List of their indices.

    Raises:
        ValueError: one of them is out of range.
    """
    from nvae_tf import hierarchy

    scales = [one.index for one in hierarchy.group_scales(config)]
    for name, value, count in (
        ("group", group, len(scales)),
        ("scale", scale, scales[-1] + 1),
        ("channel", channel, config.latent_channels),
    ):
        if value is not None and not 0 <= value < count:
            raise ValueError(f"--{name}: expected 0 to {count - 1}. Received: {value}")
    return [group] if scale is None else [index for index, one in enumerate(scales) if one == scale]


def changed_noise(model, noise, key, groups):
    """Noise of a row of pictures.

    Args:
        model: `NVAE`.
        noise: of the unchanged image, arrays [1, h, w, latent_channels].
        key: (seed, index) of the image.
        groups: indices of those that change.

    Returns:
        List of arrays [columns, h, w, latent_channels], one for each group.
    """
    import numpy as np

    from nvae_tf.evaluation.latents import draw_rows, replace_groups, with_channel

    count = FLAGS.columns - 1
    if FLAGS.channel is not None:
        changed = with_channel(noise, FLAGS.channel, np.linspace(-_LARGEST, _LARGEST, count))
    else:
        # Sample 0 is the unchanged image's own.
        changed = draw_rows(model, *key, range(1, count + 1), FLAGS.temperature)
    return replace_groups(noise, changed, groups)


def work(model, starts, groups):
    """Writes the picture."""
    import numpy as np

    from nvae_tf.evaluation.latents import decode_noise
    from nvae_tf.evaluation.sampling import evaluated_kernels
    from nvae_tf.evaluation.write_images import save_grid

    kernels, rows = evaluated_kernels(model), []
    for key, noise in zip(starts.keys, starts.noise(model, kernels), strict=True):
        changed = changed_noise(model, noise, key, groups)
        rows.append(decode_noise(model, changed, kernels=kernels, batch_size=min(FLAGS.batch_size, FLAGS.columns))[0])
    path = pathlib.Path(FLAGS.out or os.path.join(FLAGS.run_dir, "traversal.png"))
    save_grid(path, np.concatenate(rows), FLAGS.columns)
    print(f"groups that change: {', '.join(map(str, groups))} of {len(model.groups)}")
    print(f"written: {path}")


def main():
    from nvae_tf.runs.load import load_run

    config = run_config(FLAGS.run_dir, FLAGS.step)
    groups = chosen_groups(config.model, FLAGS.group, FLAGS.scale, FLAGS.channel)
    starts = Starts(config, FLAGS)
    model = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    work(model, starts, groups)


if __name__ == "__main__":
    run(main)
