r"""Proves that a model computes what the original program computed.

python tools/parity.py --checkpoint=checkpoint.pt --expected=expected.npz
python tools/parity.py --family=iaf_vae --expected=expected.npz

The first converts an official checkpoint of NVAE in memory; a file of another family holds its own weights, or
--weights names the files that do. Prints the largest error of every number in the file next to its tolerance, and ends
with exit status 1 if an error exceeds it. `nvae_tf/convert/reference_numbers.py` and `nvae_tf/baselines/parity/` say
which numbers a file may hold.
"""

import importlib
import os
import sys

from absl import flags

# TensorFlow is imported only after the flags were checked, so that a wrong flag is reported at once.
from tools.flags import define_file, run

FLAGS = flags.FLAGS

flags.DEFINE_enum("family", "nvae", ["nvae", "iaf_vae", "biva", "vqvae2"], "Family of the model.")
define_file("checkpoint", "The official checkpoint.pt of NVAE.")
define_file("expected", "The .npz with the original program's numbers.", required=True)
flags.DEFINE_list("weights", [], "Files .npz with the weights, if --expected holds none.")
flags.register_validator(
    "weights",
    lambda paths: all(os.path.isfile(os.path.expanduser(path)) for path in paths),
    message="expected existing files",
)
flags.register_multi_flags_validator(
    ["family", "checkpoint"],
    lambda values: (values["family"] == "nvae") == (values["checkpoint"] is not None),
    message="expected --checkpoint with the family nvae, and only with it",
)
flags.register_multi_flags_validator(
    ["family", "weights"],
    lambda values: values["family"] == "vqvae2" or not values["weights"],
    message="expected no --weights but with the family vqvae2",
)
flags.DEFINE_boolean(
    "verbose", False, "Print a line for every key, not only for the worst of those that belong together."
)


def _line(name, comparison, note=""):
    errors = f"{comparison.absolute:>11.2e}{comparison.relative:>11.2e}{comparison.tolerance:>10.0e}"
    return f"{name:<42}{errors}  {'ok' if comparison.ok else 'FAIL'}  {comparison.problem or note}".rstrip()


def _table(comparisons, verbose):
    """Lines of the table; of the keys of a family only those that fail, and the worst."""
    result = [f"{'key':<42}{'absolute':>11}{'relative':>11}{'tolerance':>10}"]
    families = {}
    for comparison in comparisons:
        if comparison.family is not None:
            families.setdefault(comparison.family, []).append(comparison)
        if verbose or comparison.family is None or not comparison.ok:
            result.append(_line(comparison.key, comparison))
    for family, members in families.items():
        worst = max(members, key=lambda each: (not each.ok, each.relative / each.tolerance))
        result.append(_line(f"{family} (worst of {len(members)})", worst, worst.key.removeprefix(family)))
    return result


def _compare_nvae():
    from nvae_tf.convert.reference_numbers import compare_numbers, inputs, read_expected
    from nvae_tf.convert.torch_reader import read_checkpoint
    from nvae_tf.runs.reproduction import Reproduction

    expected = read_expected(FLAGS.expected)
    ours = Reproduction(read_checkpoint(FLAGS.checkpoint), *inputs(expected))
    return compare_numbers(ours, expected)


def _compare_baseline():
    from nvae_tf.comparison import read_arrays

    parity = importlib.import_module(f"nvae_tf.baselines.parity.{FLAGS.family}")
    weights = [read_arrays(os.path.expanduser(path)) for path in FLAGS.weights]
    return parity.compare_numbers(read_arrays(FLAGS.expected), *weights)


def main():
    from nvae_tf.export.parity import in_float32
    from nvae_tf.training.trainer import configure_runtime

    configure_runtime()
    with in_float32():
        comparisons = list(_compare_nvae() if FLAGS.family == "nvae" else _compare_baseline())
    print("\n".join(_table(comparisons, FLAGS.verbose)))
    failed = sum(not comparison.ok for comparison in comparisons)
    print(f"{len(comparisons)} keys compared, {failed} beyond tolerance or unknown")
    sys.exit(0 if comparisons and not failed else 1)


if __name__ == "__main__":
    run(main)
