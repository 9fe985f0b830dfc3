r"""Draws images from a trained or converted model: a grid and, optionally, a PNG for each image or an array.

    python tools/sample.py
    python tools/sample.py --run_dir=runs/mnist --num=64 --temperature=0.7
    python tools/sample.py --run_dir=runs/mnist --temperature=0.7 --bn_temperature=0.7   (after tools/readjust_bn.py)
    python tools/sample.py --run_dir=runs/mnist --num=1000 --temperature=0.6,0.8 --images_dir=samples --npz=samples.npz

Without --run_dir it draws from the model in saved_models/mnist, which ships with it, into runs/mnist/samples.png.

Image i depends only on the seed and i, not on --num or --batch_size. bulk.py draws millions, also on several machines.
"""

from absl import flags

from nvae_tf.evaluation.write_images import check_no_images
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import run_config
from tools.flags import (
    chosen_strategy,
    define_devices,
    define_output,
    define_path,
    define_run,
    define_statistics,
    define_temperatures,
    run,
    use_shipped_run,
)

FLAGS = flags.FLAGS

_GRID_LIMIT = 400

define_run(required=False)
_OUT = define_output("PNG of the grid; RUN_DIR/samples.png if not given.", ".png")
flags.DEFINE_integer("scale", None, "Side of a pixel in the grid; by default the grid is at least 512 wide.", 1, 64)
define_path("images_dir", None, "Folder for a PNG of each image: 000000.png ...; created if needed.")
_NPZ = define_output("File for all images: uint8 [N, H, W, C] under the key images.", ".npz", name="npz")
flags.DEFINE_integer("num", 64, f"Number of images; the first {_GRID_LIMIT} are in the grid.", lower_bound=1)
flags.DEFINE_integer("first", 0, "Number of the first image.", lower_bound=0)
flags.DEFINE_integer("batch_size", 64, "Number of images drawn at once.", lower_bound=1)
define_temperatures()
define_statistics()
flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
flags.DEFINE_enum("pixels", "mean", ["mean", "sample"], "Mean of the likelihood, or a sample of it.")
define_devices()


def draw_images(model, temperatures, strategy):
    """Draws the images and writes them in the forms that the flags name."""
    from nvae_tf.evaluation.sampling import sample_images
    from nvae_tf.evaluation.write_images import save_grid, save_images, save_npz

    options = {"pixels": FLAGS.pixels, "first": FLAGS.first, "progress": Progress(FLAGS.num), "strategy": strategy}
    images = sample_images(model, FLAGS.num, temperatures, FLAGS.seed, FLAGS.batch_size, **options)
    path = _OUT("samples.png")
    save_grid(path, images[:_GRID_LIMIT], scale=FLAGS.scale)
    print(f"written: {path}")
    if FLAGS.images_dir:
        save_images(FLAGS.images_dir, images)
        print(f"written: {len(images)} images in {FLAGS.images_dir}")
    if FLAGS.npz:
        save_npz(FLAGS.npz, images)
        print(f"written: {FLAGS.npz}")


def main():
    use_shipped_run()
    _OUT("samples.png")
    _NPZ()
    if FLAGS.images_dir:
        check_no_images(FLAGS.images_dir)
    from nvae_tf.models.noise import group_temperatures
    from nvae_tf.runs.load import load_folded

    config, strategy = run_config(FLAGS.run_dir, FLAGS.step), chosen_strategy()
    temperatures = group_temperatures([float(value) for value in FLAGS.temperature], config.model)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature, strategy)
    draw_images(model, temperatures, strategy)


if __name__ == "__main__":
    run(main)
