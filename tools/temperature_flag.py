"""The flag --temperature where it takes several numbers."""

import math

from absl import flags

# The program that calls the function below lists the flags in its --help.
flags.disclaim_key_flags()


def _is_temperature(text):
    try:
        return 0.0 < float(text) < math.inf
    except ValueError:
        return False


def define_temperatures(default, description):
    """Defines --temperature, a list of positive numbers.

    Args:
        default: list of texts.
        description: for --help.
    """
    flags.DEFINE_list("temperature", default, description)
    flags.register_validator(
        "temperature",
        lambda values: bool(values) and all(map(_is_temperature, values)),
        message="expected a positive, finite number, or several with commas between them",
    )
