r"""Writes the latents of a data set to a file, as input for other programs.

    python tools/encode.py --run_dir=runs/mnist --data_dir=data --split=train --out=latents.npz
    python tools/encode.py --run_dir=runs/mnist --data_dir=data --out=test.tfrecord --what=latents,params,kl

For each image, in the order of the split and without damaged ones; all but the first are float32:

    index                     its number in the split, int64
    latents_00, latents_01 .. z of each group after the flows [h, w, latent_channels], in generation order
    loc_00 .., log_scale_00 .. mean and logarithm of the standard deviation of each posterior, before the flows
    kl_per_group              KL of each group, nats; with flows log q - log p at the latents

An .npz holds them as arrays [N, ...] and is assembled in memory, at most --max_gib. A .tfrecord holds a
tf.train.Example for each image, needs the memory of one batch, and is read by

    features = {"latents_00": tf.io.FixedLenFeature([h, w, latent_channels], tf.float32), ...}
    tf.data.TFRecordDataset(path).map(lambda record: tf.io.parse_single_example(record, features))

With --draw=mean z is the mean of the posterior, passed through the flows, and each posterior is conditioned on the
means of the groups before it. With --draw=sample the noise depends only on the seed and the number of the image.
"""

from absl import flags

from nvae_tf.evaluation import latent_files
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import indexed_batches, run_config
from tools.flags import define_images, define_output, define_run, run, run_images

FLAGS = flags.FLAGS

define_run()
define_images()
_OUT = define_output("File to write: .npz or .tfrecord.", ".npz", ".tfrecord")
flags.mark_flag_as_required("out")
flags.DEFINE_enum("draw", "mean", ["mean", "sample"], "Mean of each posterior, or a sample of it.")
flags.DEFINE_list("what", ["latents"], f"What to write, some of {', '.join(latent_files.PARTS)}, separated by commas.")
flags.DEFINE_integer("batch_size", 64, "Number of images encoded at once.", lower_bound=1)
flags.DEFINE_integer("max_images", 0, "Encode only the first images; 0 for all.", lower_bound=0)
flags.DEFINE_float("max_gib", 2.0, "Maximum size of an .npz in GiB.", lower_bound=0.0)
flags.register_validator(
    "what",
    lambda parts: bool(parts) and set(parts) <= set(latent_files.PARTS),
    message=f"expected some of {', '.join(latent_files.PARTS)}, separated by commas",
)


def encoded_batches(model, images, names):
    """Yields (numbers, `{name: array [B, ...]}`) of all images for the names of a `layout`."""
    from nvae_tf.evaluation.latents import encode

    progress, size, done = Progress(len(images)), min(FLAGS.batch_size, len(images)), 0
    for numbers, batch in indexed_batches(images, model.config, size, FLAGS.seed):
        encoded = encode(model, batch, numbers, FLAGS.seed, FLAGS.draw, size)
        yield numbers, latent_files.row_arrays(encoded, names)
        done += len(numbers)
        progress(done)


def main():
    from nvae_tf.runs.load import load_folded

    path = _OUT()
    config = run_config(FLAGS.run_dir, FLAGS.step)
    shapes = latent_files.layout(config.model, FLAGS.what)
    images = run_images(config, FLAGS.max_images)
    latent_files.check_size(FLAGS.out, shapes, len(images), FLAGS.max_gib)
    model = load_folded(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
    batches = encoded_batches(model, images, shapes)
    if path.suffix == ".npz":
        latent_files.write_latents_npz(path, shapes, len(images.good), batches)
    else:
        latent_files.write_latents_tfrecord(path, batches)
    print(f"written: {path}, {len(images.good)} images, step {model.restored_step}")


if __name__ == "__main__":
    run(main)
