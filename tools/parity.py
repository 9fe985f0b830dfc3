r"""Proves that a converted model computes what the original program computed.

python tools/parity.py --checkpoint=checkpoint.pt --expected=expected.npz

converts in memory, prints the largest error of every number of the file beside its tolerance, and ends with exit
status 1 if one is beyond it. `tools/golden.py` says which numbers a file may hold.
"""

import os
import sys

from absl import app, flags

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "The official checkpoint.pt.", required=True)
flags.DEFINE_string("expected", None, "The .npz with the original program's numbers.", required=True)
flags.DEFINE_boolean("verbose", False, "Print a line for each gradient and statistic, not only for the worst.")

for _name in ("checkpoint", "expected"):
    flags.register_validator(
        _name, lambda path: path is None or os.path.isfile(path), message="expected an existing file"
    )


def format_line(name, comparison, note=""):
    """One line of the table."""
    errors = f"{comparison.absolute:>11.2e}{comparison.relative:>11.2e}{comparison.tolerance:>10.0e}"
    return f"{name:<42}{errors}  {'ok' if comparison.ok else 'FAIL'}  {comparison.problem or note}".rstrip()


def _badness(comparison):
    return comparison.relative / comparison.tolerance if comparison.problem is None else float("inf")


def lines(comparisons, verbose=False):
    """The lines of the table; of keys with a slash those that fail, and one line for the worst of all.

    Args:
        comparisons: list of `golden.Comparison`.
        verbose: a line for every key. Default False.
    """
    result = [f"{'key':<42}{'absolute':>11}{'relative':>11}{'tolerance':>10}"]
    families = {}
    for comparison in comparisons:
        family, slash, _ = comparison.key.partition("/")
        if slash:
            families.setdefault(family, []).append(comparison)
        if verbose or not slash or not comparison.ok:
            result.append(format_line(comparison.key, comparison))
    for family, members in families.items():
        worst = max(members, key=_badness)
        name = worst.key.removeprefix(f"{family}/")
        result.append(format_line(f"{family}/ (worst of {len(members)})", worst, name))
    return result


def run():
    """Prints the table; returns whether all numbers agree."""
    from nvae_tf.convert.golden import compare, inputs, read_expected
    from nvae_tf.convert.torch_reader import read_checkpoint
    from nvae_tf.runs.reproduction import Reproduction
    from nvae_tf.training.trainer import configure_runtime

    configure_runtime()
    try:
        expected = read_expected(FLAGS.expected)
        images, noise = inputs(expected)
        ours = Reproduction(read_checkpoint(FLAGS.checkpoint), images, noise)
    except (ValueError, OSError, ImportError) as error:
        # These are what a wrong file, or a missing torch, raises; their messages name it.
        sys.exit(f"parity.py: {error}")
    comparisons = list(compare(ours, expected))
    print("\n".join(lines(comparisons, FLAGS.verbose)))
    failed = sum(not comparison.ok for comparison in comparisons)
    print(f"{len(comparisons)} keys compared, {failed} beyond tolerance or unknown")
    return bool(comparisons) and not failed


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1:]}")
    sys.exit(0 if run() else 1)


if __name__ == "__main__":
    app.run(main)
