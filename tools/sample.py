r"""Draws images from a trained or converted model: a grid, and where asked one PNG an image, or an array.

    python tools/sample.py --run_dir=runs/mnist --num=64 --temperature=0.7
    python tools/sample.py --run_dir=runs/mnist --temperature=0.7 --bn_temperature=0.7   (after tools/readjust_bn.py)
    python tools/sample.py --run_dir=runs/mnist --num=1000 --temperature=0.6,0.8 --images_dir=samples --npz=samples.npz

Image i depends on the seed and i alone, not on --num or --batch_size. Millions are drawn by several workers, each with
a --worker_index of its own, on as many machines as share the folder; shards that are there are skipped:

    python tools/sample.py --run_dir=runs/mnist --shards_dir=many --num=1000000 --num_workers=4 --worker_index=0
"""

import os
import pathlib

from absl import flags

from nvae_tf.evaluation.sample_shards import begin, shard_numbers, shard_path, write_shard
from nvae_tf.runs.progress import Progress
from tools.flags import chosen_strategy, define_devices, define_run, define_statistics, define_temperatures, run

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

_GRID_LIMIT = 400

define_run()
flags.DEFINE_string("out", None, "PNG of the grid; RUN_DIR/samples.png if not given.")
flags.DEFINE_string("images_dir", None, "Folder for one PNG an image as well: 000000.png ...; made if need be.")
flags.DEFINE_string("npz", None, "File for all images as well: uint8 [N, H, W, C] under the key images.")
flags.DEFINE_integer("num", 64, f"Number of images; the first {_GRID_LIMIT} are in the grid.", lower_bound=1)
flags.DEFINE_integer("first", 0, "Number of the first image.", lower_bound=0)
flags.DEFINE_integer("batch_size", 64, "Images that are drawn at once.", lower_bound=1)
define_temperatures(
    ["1.0"], "Factor of every prior's scale: one number, or one for each scale or each group, coarsest first."
)
define_statistics()
flags.DEFINE_integer("seed", 0, "Seed of the draw.", lower_bound=0)
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "Mean of the likelihood, or a draw from it.")
define_devices()
flags.DEFINE_string("shards_dir", None, "Folder for .npy files of --shard_size images each, instead of all the above.")
flags.DEFINE_integer("shard_size", 10_000, "Images of a shard; --first and --num are multiples of it.", lower_bound=1)
flags.DEFINE_integer("num_workers", 1, "Workers that share the shards.", lower_bound=1)
flags.DEFINE_integer("worker_index", 0, "Which of them this is, from 0.", lower_bound=0)


def _in_existing_folder(suffix):
    return lambda path: path is None or (path.endswith(suffix) and os.path.isdir(os.path.dirname(path) or "."))


flags.register_validator(
    "out", _in_existing_folder(".png"), message="expected a name ending in .png in an existing folder"
)
flags.register_validator(
    "npz", _in_existing_folder(".npz"), message="expected a name ending in .npz in an existing folder"
)
flags.register_multi_flags_validator(
    ["worker_index", "num_workers"],
    lambda values: values["worker_index"] < values["num_workers"],
    message="expected --worker_index below --num_workers",
)
flags.register_multi_flags_validator(
    ["shards_dir", "out", "images_dir", "npz"],
    lambda values: not values["shards_dir"] or not (values["out"] or values["images_dir"] or values["npz"]),
    message="expected --shards_dir without --out, --images_dir and --npz",
)


def draw_shards(model, temperatures, strategy):
    """Draws this worker's shards that are not there yet."""
    from nvae_tf.evaluation.sampling import evaluated_kernels, sample_images
    from nvae_tf.evaluation.write_images import to_uint8
    from nvae_tf.runs.provenance import weights

    size, folder = FLAGS.shard_size, pathlib.Path(FLAGS.shards_dir)
    numbers = shard_numbers(FLAGS.first, FLAGS.num, size, FLAGS.worker_index, FLAGS.num_workers)
    origin = weights(FLAGS.run_dir, model, FLAGS.bn_temperature)
    begin(folder, {**origin, "seed": FLAGS.seed, "temperature": temperatures, "pixels": FLAGS.pixels, "size": size})
    missing = [number for number in numbers if not shard_path(folder, number).exists()]
    batch, progress, kernels = min(FLAGS.batch_size, size), Progress(len(missing) * size), evaluated_kernels(model)

    def draw(first):
        options = {"pixels": FLAGS.pixels, "kernels": kernels, "strategy": strategy}
        return to_uint8(sample_images(model, batch, temperatures, FLAGS.seed, batch, first=first, **options))

    for done, number in enumerate(missing):
        for images in write_shard(shard_path(folder, number), number * size, size, batch, draw):
            progress(done * size + images)
    print(f"written: {len(missing)} shards in {folder}; {len(numbers) - len(missing)} were there")


def main():
    from nvae_tf.evaluation.sampling import sample_images, spread_temperatures
    from nvae_tf.evaluation.write_images import save_grid, save_images, save_npz
    from nvae_tf.runs.load import load_run

    strategy = chosen_strategy()
    with strategy.scope():
        model = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature)
    temperatures = spread_temperatures(model, [float(value) for value in FLAGS.temperature])
    if FLAGS.shards_dir:
        draw_shards(model, temperatures, strategy)
        return
    options = {
        "pixels": FLAGS.pixels,
        "batch_size": FLAGS.batch_size,
        "first": FLAGS.first,
        "progress": Progress(FLAGS.num),
        "strategy": strategy,
    }
    images = sample_images(model, FLAGS.num, temperatures, FLAGS.seed, **options)
    path = pathlib.Path(FLAGS.out or os.path.join(FLAGS.run_dir, "samples.png"))
    save_grid(path, images[:_GRID_LIMIT])
    print(f"written: {path}")
    if FLAGS.images_dir:
        save_images(FLAGS.images_dir, images)
        print(f"written: {len(images)} images in {FLAGS.images_dir}")
    if FLAGS.npz:
        save_npz(FLAGS.npz, images=images)
        print(f"written: {FLAGS.npz}")


if __name__ == "__main__":
    run(main)
