r"""Checks whether a .tflite decoder is fit for a phone's GPU.

python tools/check_tflite.py exported/mnist/decoder_float32.tflite --run_dir=runs/mnist

lint   the file is read: ops, ranks, types, constant operands and outputs must be those that LiteRT's GPU delegates take
gpu    the delegate runs all of it, on a Vulkan device that may be software, and agrees with the CPU within 1e-3
keras  the CPU agrees with the run's Keras model (--run_dir; --step, --ema and --bn_temperature as in the export) or the
       sidecar's golden numbers (--reference): within 1e-5, or 5e-3 if weights are float16
half   the largest number that fp16 would have to hold, and the error when everything is rounded to fp16

Differences are relative to the largest magnitude of an output. Each part is PASS, FAIL, or NOT SHOWN if something that
it needs is missing on this machine. Exit status: 0, or the sum of 2 (lint), 4 (gpu), 8 (keras) and 16 (half) for the
parts that fail, with --require_all also for those that are not shown; 1 for wrong flags, no such file or no such run.
"""

import os
import sys

from absl import app, flags

from tools.flags import define_file, define_run, define_statistics, run

FLAGS = flags.FLAGS

STATUS_BITS = {"lint": 2, "gpu": 4, "keras": 8, "half": 16}
# Details printed of a part that fails; --verbose prints all.
_MAX_DETAILS = 20

define_run(required=False)
define_statistics()
define_file("reference", "Sidecar decoder.json beside its golden.bin, if there is no run.")
flags.DEFINE_integer("num", 4, "Number of random inputs for gpu and keras.", lower_bound=1)
flags.DEFINE_integer("num_audit", 32, "Number of random inputs for half; use few for 256 x 256 pixels.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the random inputs.", lower_bound=0)
flags.DEFINE_bool("verbose", False, "Print the error of every output and the largest number of every tensor.")
flags.DEFINE_bool(
    "require_all",
    os.environ.get("NVAE_REQUIRE_SHARED") == "1",
    "Count parts that are not shown as failed; true by default if the environment has NVAE_REQUIRE_SHARED=1.",
)
flags.mark_flags_as_mutual_exclusive(["run_dir", "reference"])


def show(part):
    """Prints a part: its verdict and, below it, the details if it fails or with --verbose."""
    shown = len(part.details) if FLAGS.verbose else _MAX_DETAILS if part.verdict == "FAIL" else 0
    lines = [f"{part.name:<6} {part.verdict:<9} {part.reason}", *part.details[:shown]]
    if 0 < shown < len(part.details):
        lines.append(f"and {len(part.details) - shown} more (--verbose)")
    print(f"\n{'':17}".join(lines), flush=True)


def main(arguments):
    if len(arguments) != 1 or not os.path.isfile(arguments[0]):
        raise app.UsageError(f"expected one existing FILE. Received: {arguments}")
    (path,) = arguments
    # These import TensorFlow.
    from nvae_tf.export.tflite.check.gate import check_file
    from nvae_tf.runs.families import require_folding
    from nvae_tf.runs.load import load_run
    from nvae_tf.runs.starts import run_config

    if FLAGS.run_dir:
        require_folding(run_config(FLAGS.run_dir), "--run_dir")
    nvae = FLAGS.run_dir and load_run(FLAGS.run_dir, FLAGS.step, FLAGS.ema, FLAGS.bn_temperature)
    draws = {"num_draws": FLAGS.num, "num_audit_draws": FLAGS.num_audit, "seed": FLAGS.seed}
    bad, status = {"FAIL", "NOT SHOWN"} if FLAGS.require_all else {"FAIL"}, 0
    for part in check_file(path, nvae=nvae, reference=FLAGS.reference, **draws):
        show(part)
        status += STATUS_BITS[part.name] if part.verdict in bad else 0
    sys.exit(status)


if __name__ == "__main__":
    run(main, takes_words=True)
