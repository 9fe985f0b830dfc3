r"""Trains a model.

python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=data --config.train.batch_size=100

The same command goes on from the last checkpoint.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run: made, or gone on with.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file; --config.train.batch_size=100 overrides any field."
)


def _unknown_field(argv):
    """What is wrong with the first override of a field that no configuration has; None if there is none such."""
    from nvae_tf.config import Config, config_to_dict

    for argument in argv:
        name = argument.partition("=")[0].lstrip("-")
        root, *path = name.split(".")
        known = config_to_dict(Config())
        for field in path if root in ("config", "noconfig") else ():
            fields = known if isinstance(known, dict) else {}
            if field not in fields:
                return f"--{name}: expected one of {sorted(fields)}. Received: {field!r}"
            known = known[field]
    return None


def parse_flags(argv):
    """Reads the flags; ml_collections answers an unknown field or a missing file with a traceback, this does not."""
    try:
        return app.parse_flags_with_usage(argv)
    except (KeyError, OSError) as error:
        sys.exit(f"train.py: {_unknown_field(argv) or f'--config: {error}'}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    if _CONFIG.value is None:
        raise app.UsageError("--config: expected a configuration file such as configs/digits.py. Received: none")
    # TensorFlow takes seconds to import: wrong flags are reported first.
    from nvae_tf.config import ConfigError

    try:
        _CONFIG.value.validate()
    except ConfigError as error:
        sys.exit(f"train.py: --config.{error}")
    except OSError as error:
        # Without overrides a configuration file that cannot be read shows only now.
        sys.exit(f"train.py: --config: {error}")
    from training_run import prepare

    from nvae_tf.training.trainer import NonFiniteLossError

    try:
        run = prepare(_CONFIG.value, FLAGS.run_dir, FLAGS.data_dir)
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
