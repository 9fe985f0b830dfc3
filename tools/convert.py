r"""Converts an official checkpoint.pt into a run folder that sample.py, evaluate.py and load_run can read.

python tools/convert.py --checkpoint=checkpoint.pt --run_dir=runs/converted

Everything is checked first, and nothing is written if a check fails. The file is read as data; nothing in it is run.
"""

from absl import flags

from nvae_tf.files import check_writable, is_vacant, new_folder

# TensorFlow is imported only after the flags were checked, so that a wrong flag is reported at once.
from tools.flags import define_file, define_path, run

FLAGS = flags.FLAGS

define_file("checkpoint", "The official checkpoint.pt.", required=True)
define_path("run_dir", None, "Folder to write, new or empty.", required=True)
flags.register_validator("run_dir", is_vacant, message="expected a new or empty folder; nothing is overwritten")


def main():
    check_writable(FLAGS.run_dir)
    from nvae_tf.convert.torch_reader import read_checkpoint

    checkpoint = read_checkpoint(FLAGS.checkpoint)
    # TensorFlow takes seconds to import, so a damaged file is reported first.
    from nvae_tf.checkpoint import RunFolder, model_variables
    from nvae_tf.convert.apply import model_from_checkpoint

    model = model_from_checkpoint(checkpoint)
    with new_folder(FLAGS.run_dir) as temporary:
        RunFolder(temporary).create(model.config).save(checkpoint.global_step, {"model": model_variables(model)})
    # Every variable is set by exactly one entry.
    used = len(model.variables)
    print(f"entries: {used} used, {len(checkpoint.arrays) - used} ignored (counters and buffers without content)")
    print(f"parameters: {sum(v.shape.num_elements() for v in model.trainable_variables):,}")
    print(f"written: {FLAGS.run_dir} (config.json; checkpoint of step {checkpoint.global_step})")


if __name__ == "__main__":
    run(main)
