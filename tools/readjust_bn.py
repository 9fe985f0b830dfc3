r"""Readjusts batch norm to samples at a temperature, which improves them (paper, appendix A).

    python tools/readjust_bn.py --run_dir=runs/mnist --temperature=0.7
    python tools/sample.py --run_dir=runs/mnist --temperature=0.7 --bn_temperature=0.7

Draws samples with batch norm in training mode and stores its statistics beside the checkpoint, which does not change.
"""

from absl import flags

from nvae_tf.files import only_writer
from nvae_tf.runs.families import require_folding
from nvae_tf.runs.progress import Progress
from nvae_tf.runs.starts import run_config
from tools.flags import define_run, define_temperature, run

FLAGS = flags.FLAGS

define_run()
define_temperature("Factor of every prior's scale.")
flags.DEFINE_integer("num_batches", 500, "Number of batches to draw.", lower_bound=1)
flags.DEFINE_integer("batch_size", 16, "Number of images in each batch.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)


def main():
    # A run that trains would remove the checkpoint, or the statistics with it.
    with only_writer(FLAGS.run_dir):
        require_folding(run_config(FLAGS.run_dir, FLAGS.step), "--run_dir")

        from nvae_tf.checkpoint import RunFolder
        from nvae_tf.checkpoint.statistics import save_statistics
        from nvae_tf.evaluation.readjust import readjust
        from nvae_tf.runs.load import load_run

        model = load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema)
        progress = Progress(FLAGS.num_batches * FLAGS.batch_size)
        arrays = readjust(model, FLAGS.temperature, FLAGS.num_batches, FLAGS.batch_size, FLAGS.seed, progress)
        folder = RunFolder(FLAGS.run_dir).step_folder(model.restored_step)
        path = save_statistics(folder, FLAGS.temperature, model.averaged, arrays)
    print(f"written: {path}; use it with --bn_temperature={FLAGS.temperature:g}")


if __name__ == "__main__":
    run(main)
