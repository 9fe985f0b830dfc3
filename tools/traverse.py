r"""Shows the effect of a group, scale or channel of the latents by changing only that.

    python tools/traverse.py --run_dir=runs/mnist --data_dir=data --images=0,1,2 --group=4
    python tools/traverse.py --run_dir=runs/mnist --seeds=1,2,3 --scale=0 --temperature=0.7
    python tools/traverse.py --run_dir=runs/mnist --seeds=1,2,3 --group=0 --channel=2

Each image has a row: unchanged, then with fresh noise for the latents of the chosen groups, or with a channel of that
noise set to -3 ... 3 everywhere. The noise of the other groups is unchanged; their latents may depend on what changes.
"""

import numpy as np
from absl import flags

from nvae_tf.runs.families import require_folding
from nvae_tf.runs.starts import Starts, run_config
from tools.flags import define_images, define_output, define_run, define_starts, define_temperature, run

FLAGS = flags.FLAGS

define_run()
define_images()
define_starts()
flags.DEFINE_integer("group", None, "Group that changes, in generation order from 0.", lower_bound=0)
flags.DEFINE_integer("scale", None, "Scale whose groups change, from 0, the coarsest.", lower_bound=0)
flags.mark_flags_as_mutual_exclusive(["group", "scale"], required=True)
flags.DEFINE_integer("channel", None, "Latent channel that is set to -3 ... 3, instead of fresh noise.", lower_bound=0)
flags.DEFINE_integer("columns", 8, "Images in each row, including the unchanged one.", lower_bound=2, upper_bound=1000)
flags.DEFINE_integer("batch_size", 8, "Number of images decoded at once.", lower_bound=1)
define_temperature("Factor of the prior's scale, for fresh noise and for --seeds.")
_OUT = define_output("PNG; RUN_DIR/traversal.png if not given.", ".png")

_LARGEST = 3.0


def chosen_groups(config):
    """Indices of the groups that change; raises `ValueError` if the model of a `ModelConfig` does not have them."""
    from nvae_tf import hierarchy

    scales = [one.index for one in hierarchy.group_scales(config)]
    for name, count in (("group", len(scales)), ("scale", scales[-1] + 1), ("channel", config.latent_channels)):
        value = FLAGS[name].value
        if value is not None and value >= count:
            raise ValueError(f"--{name}: expected 0 to {count - 1}. Received: {value}")
    return [index for index, scale in enumerate(scales) if FLAGS.group == index or FLAGS.scale == scale]


def changed_noise(model, noise, key, groups):
    """Noise of a row of images, a list of arrays [columns, h, w, latent_channels].

    `noise` is that of the unchanged image, whose (seed, index) is `key`; `groups` change.
    """
    from nvae_tf.evaluation.latents import draw_rows, replace_groups, with_channel

    count = FLAGS.columns - 1
    if FLAGS.channel is not None:
        changed = with_channel(noise, FLAGS.channel, np.linspace(-_LARGEST, _LARGEST, count))
    else:
        changed = draw_rows(model, *key, range(1, count + 1), FLAGS.temperature)  # sample 0 is the unchanged image's
    return replace_groups(noise, changed, groups)


def main():
    from nvae_tf.evaluation.latents import decode_noise
    from nvae_tf.evaluation.write_images import save_grid
    from nvae_tf.runs.load import load_folded

    path = _OUT("traversal.png")
    config = run_config(FLAGS.run_dir, FLAGS.step)
    require_folding(config, "--run_dir")
    groups = chosen_groups(config.model)
    starts = Starts(config, FLAGS)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    rows = []
    for key, noise in zip(starts.keys, starts.noise(model), strict=True):
        changed = changed_noise(model, noise, key, groups)
        rows.append(decode_noise(model, changed, batch_size=min(FLAGS.batch_size, FLAGS.columns))[0])
    save_grid(path, np.concatenate(rows), FLAGS.columns)
    print(f"groups that change: {', '.join(map(str, groups))} of {len(model.groups)}")
    print(f"written: {path}")


if __name__ == "__main__":
    run(main)
