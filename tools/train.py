r"""Trains a model.

python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=data --config.train.batch_size=100

The same command goes on from the last checkpoint.
"""

import sys

from absl import app, flags
from config_flag import checked_config, parse_flags
from ml_collections import config_flags

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run: made, or gone on with.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file; --config.train.batch_size=100 overrides any field."
)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    # TensorFlow takes seconds to import: wrong flags are reported first.
    config = checked_config(_CONFIG, "train.py")
    from training_run import prepare

    from nvae_tf.training.trainer import NonFiniteLossError

    try:
        run = prepare(config, FLAGS.run_dir, FLAGS.data_dir)
    except (ValueError, OSError) as error:
        # These are what wrong flags, files and folders raise; their messages name them.
        sys.exit(f"train.py: {error}")
    try:
        run.run()
    except NonFiniteLossError as error:
        sys.exit(f"train.py: {error}")
    print(f"done: {run.folder.path}, step {run.trainer.step}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
