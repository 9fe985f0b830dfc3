"""The flag --config of the programs that take a configuration, and what can be wrong with it."""

import os
import sys

from absl import app


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
        sys.exit(f"{os.path.basename(argv[0])}: {_unknown_field(argv) or f'--config: {error}'}")


def checked_config(flag, program):
    """The validated `Config` of a --config flag; ends the program with a clear message if there is none.

    Args:
        flag: what `config_flags.DEFINE_config_file` returned.
        program: name for the message.
    """
    if flag.value is None:
        raise app.UsageError("--config: expected a configuration file such as configs/digits.py. Received: none")
    try:
        return flag.value.validate()
    except OSError as error:
        # Without overrides a configuration file that cannot be read shows only when a field is read.
        sys.exit(f"{program}: --config: {error}")
    except ValueError as error:
        sys.exit(f"{program}: --config.{error}")
