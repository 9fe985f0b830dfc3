r"""Turns an official checkpoint.pt into a run folder that sample.py, evaluate.py and load_run read.

python tools/convert.py --checkpoint=checkpoint.pt --run_dir=runs/converted

Everything is checked first: on any error nothing is written. The file is read as data; nothing in it is run.
"""

import os
import pathlib
import shutil

from absl import flags

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.
from tools.flags import run

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "The official checkpoint.pt.", required=True)
flags.DEFINE_string("run_dir", None, "Folder to make: new, or empty.", required=True)


def _is_free(path):
    return path is None or not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))


flags.register_validator(
    "checkpoint", lambda path: path is None or os.path.isfile(path), message="expected an existing file"
)
flags.register_validator("run_dir", _is_free, message="expected a new or empty folder; nothing is overwritten")


def write_run(run_dir, step, model):
    """Writes a run folder under a temporary name and renames it when it is whole.

    Args:
        run_dir: folder that does not exist or is empty.
        step: of the checkpoint.
        model: `NVAE` with its `config`.
    """
    from nvae_tf.checkpoint import RunFolder, model_variables

    final = pathlib.Path(run_dir).resolve()
    temporary = final.with_name(f"{final.name}.tmp{os.getpid()}")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        RunFolder(temporary).create(model.config).save(step, {"model": model_variables(model)})
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def main():
    from nvae_tf.convert.torch_reader import read_checkpoint

    checkpoint = read_checkpoint(FLAGS.checkpoint)
    # TensorFlow takes seconds to import: a damaged file is reported first.
    from nvae_tf.convert.apply import model_from_checkpoint

    model = model_from_checkpoint(checkpoint)
    write_run(FLAGS.run_dir, checkpoint.global_step, model)
    # Every variable is set by one entry; the rest of the entries carry nothing.
    used = len(model.variables)
    print(f"entries: {used} used, {len(checkpoint.arrays) - used} ignored (counters and buffers without content)")
    print(f"parameters: {sum(v.shape.num_elements() for v in model.trainable_variables):,}")
    print(f"written: {FLAGS.run_dir} (config.json; checkpoint of step {checkpoint.global_step})")


if __name__ == "__main__":
    run(main)
