r"""Proves that a converted model computes what the original program computed.

python tools/parity.py --checkpoint=checkpoint.pt --expected=expected.npz

converts in memory, prints the largest error of every number in the file next to its tolerance, and ends with exit
status 1 if an error exceeds it. `nvae_tf/convert/reference_numbers.py` says which numbers a file may hold.
"""

import sys

from absl import flags

# TensorFlow is imported only after the flags were checked, so that a wrong flag is reported at once.
from tools.flags import define_file, run

FLAGS = flags.FLAGS

define_file("checkpoint", "The official checkpoint.pt.", required=True)
define_file("expected", "The .npz with the original program's numbers.", required=True)
flags.DEFINE_boolean("verbose", False, "Print a line for every gradient and statistic, not only for the worst.")


def _line(name, comparison, note=""):
    errors = f"{comparison.absolute:>11.2e}{comparison.relative:>11.2e}{comparison.tolerance:>10.0e}"
    return f"{name:<42}{errors}  {'ok' if comparison.ok else 'FAIL'}  {comparison.problem or note}".rstrip()


def _table(comparisons, verbose):
    """Lines of the table; of the keys with a slash only those that fail, and the worst of each family."""
    result = [f"{'key':<42}{'absolute':>11}{'relative':>11}{'tolerance':>10}"]
    families = {}
    for comparison in comparisons:
        family, slash, _ = comparison.key.partition("/")
        if slash:
            families.setdefault(family, []).append(comparison)
        if verbose or not slash or not comparison.ok:
            result.append(_line(comparison.key, comparison))
    for family, members in families.items():
        worst = max(members, key=lambda each: float("inf") if each.problem else each.relative / each.tolerance)
        result.append(_line(f"{family}/ (worst of {len(members)})", worst, worst.key.removeprefix(f"{family}/")))
    return result


def main():
    from nvae_tf.convert.reference_numbers import compare_numbers, inputs, read_expected
    from nvae_tf.convert.torch_reader import read_checkpoint
    from nvae_tf.export.parity import in_float32
    from nvae_tf.runs.reproduction import Reproduction
    from nvae_tf.training.trainer import configure_runtime

    configure_runtime()
    expected = read_expected(FLAGS.expected)
    with in_float32():
        ours = Reproduction(read_checkpoint(FLAGS.checkpoint), *inputs(expected))
        comparisons = list(compare_numbers(ours, expected))
    print("\n".join(_table(comparisons, FLAGS.verbose)))
    failed = sum(not comparison.ok for comparison in comparisons)
    print(f"{len(comparisons)} keys compared, {failed} beyond tolerance or unknown")
    sys.exit(0 if comparisons and not failed else 1)


if __name__ == "__main__":
    run(main)
