r"""Shows what a model keeps of images: each beside its reconstruction from a sample of the posterior.

    python tools/reconstruct.py --run_dir=runs/mnist --data_dir=data --num=32
    python tools/reconstruct.py --run_dir=runs/mnist --data_dir=data --num=8 --progressive --temperature=0.7

With --progressive each image has a row: the image, then what its first groups hold (the coarsest 1, ... all of them)
with the other groups drawn from the prior. The noise depends only on the seed and the number of the image.
"""

import numpy as np
from absl import flags

from nvae_tf.runs.starts import indexed_batches, run_config
from tools.flags import define_images, define_output, define_run, define_temperature, run, run_images

FLAGS = flags.FLAGS

define_run()
define_images()
flags.DEFINE_integer("num", 32, "Number of images, the first of the split.", lower_bound=1, upper_bound=4096)
flags.DEFINE_integer("batch_size", 16, "Number of reconstructions computed at once.", lower_bound=1)
flags.DEFINE_bool("progressive", False, "Also show what the first groups hold.")
define_temperature("Factor of the prior's scale for the groups that --progressive draws.")
_OUT = define_output("PNG; RUN_DIR/reconstructions.png, or RUN_DIR/progressive.png, if not given.", ".png")

_MAX_STEPS = 8


def kept_counts(num_groups):
    """Up to eight numbers of groups, evenly spaced from 1 to all of them."""
    steps = min(num_groups, _MAX_STEPS)
    return sorted({round(1 + (num_groups - 1) * step / max(steps - 1, 1)) for step in range(steps)})


def _reconstruct(model, numbers, images, counts, num_at_once):
    """Images with their reconstructions, mean squared errors and log p(x|z).

    `counts` are S numbers of groups to keep, and the last keeps them all; batches are padded to `num_at_once` images.

    Returns:
        [B, 1 + S, h, w, C]: each image and its reconstructions; mean squared errors [B, S]; log p(x|z) [B, S], nats.
    """
    from nvae_tf.evaluation.latents import decode_latents, decode_noise, draw_rows, encode, keep_first
    from nvae_tf.models.pixels import crop_padding

    encoded, rows = encode(model, images, numbers, FLAGS.seed, batch_size=num_at_once), []
    if len(counts) == 1:
        decoded, log_likelihood = decode_latents(model, encoded.latents, images, num_at_once)
    else:
        if not encoded.noise:
            family = model.model_config.family
            raise ValueError(f"--progressive: expected latents that are normal. Received: model.family {family!r}")
        for place, number in enumerate(numbers):
            own = [eps[place : place + 1] for eps in encoded.noise]
            # The same draw for every count, so that only what is kept changes. Sample 0 is the posterior's.
            fresh = draw_rows(model, FLAGS.seed, number, [1], FLAGS.temperature)
            rows.append(keep_first(own, fresh, counts))
        noise = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        repeated = np.repeat(images, len(counts), axis=0)
        decoded, log_likelihood = decode_noise(model, noise, repeated, num_at_once * len(counts))
    decoded = decoded.reshape(len(images), len(counts), *decoded.shape[1:])
    originals = crop_padding(images, model.model_config.padding)[:, np.newaxis]
    errors = np.mean((decoded - originals) ** 2, axis=(2, 3, 4))
    return np.concatenate([originals, decoded], axis=1), errors, log_likelihood.reshape(errors.shape)


def main():
    from nvae_tf.evaluation.write_images import save_grid
    from nvae_tf.runs.load import load_folded

    path = _OUT("progressive.png" if FLAGS.progressive else "reconstructions.png")
    config = run_config(FLAGS.run_dir, FLAGS.step)
    images = run_images(config, FLAGS.num)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    groups = len(model.noise_shapes(1))
    counts = kept_counts(groups) if FLAGS.progressive else [groups]
    num_at_once = max(1, min(FLAGS.batch_size // len(counts), len(images)))
    batches = indexed_batches(images, model.config, num_at_once, FLAGS.seed)
    parts = [_reconstruct(model, numbers, batch, counts, num_at_once) for numbers, batch in batches]
    rows, errors, log_likelihoods = (np.concatenate(values) for values in zip(*parts, strict=True))
    print(f"{len(rows)} {FLAGS.split} images, step {model.restored_step}, {groups} groups")
    print(f"{'groups kept':<14}{'mean squared error':>20}{'log p(x|z), nats':>20}")
    for count, error, nats in zip(counts, errors.mean(0), log_likelihoods.mean(0, dtype=np.float64), strict=True):
        print(f"{count:<14}{error:>20.6f}{nats:>20.4f}")
    pair_columns = 2 * max(1, round((2 * len(rows)) ** 0.5 / 2))  # about as wide as it is high
    columns = 1 + len(counts) if FLAGS.progressive else pair_columns
    save_grid(path, rows.reshape(-1, *rows.shape[2:]), columns)
    print(f"written: {path}")


if __name__ == "__main__":
    run(main)
