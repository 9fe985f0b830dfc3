r"""Shows whether a .tflite decoder is fit for a phone's GPU.

python tools/check_tflite.py exports/mnist/decoder_float32.tflite --run_dir=runs/mnist

lint   the file alone: ops, ranks, types, constant operands, outputs, against what LiteRT's GPU delegates take
gpu    the delegate runs all of it, on a Vulkan device that may be software, and agrees with the CPU within 1e-3
keras  the CPU agrees with the run's Keras model (--run_dir; --step, --ema and --bn_temperature as in the export) or the
       sidecar's golden numbers (--reference): within 1e-5, or 5e-3 where weights are float16
half   the largest number that fp16 would have to hold, and the error when all is rounded to fp16

Differences are relative to the largest magnitude of an output. Each part is PASS, FAIL or NOT SHOWN, where this machine
lacks what it needs. Exit status: 0, or the sum of 2 (lint), 4 (gpu), 8 (keras) and 16 (half) for the parts that fail,
with --require_all also for those not shown; 1 for wrong flags or no such file.
"""

import os
import sys

from absl import app, flags

from tools.flags import define_checkpoint, define_statistics

# What imports TensorFlow is imported where it is needed, so that a wrong flag is reported at once.

FLAGS = flags.FLAGS

EXIT_STATUS = {"lint": 2, "gpu": 4, "keras": 8, "half": 16}

flags.DEFINE_string("run_dir", None, "Folder of the run that the file was exported from.")
define_checkpoint()
define_statistics()
flags.DEFINE_string("reference", None, "Sidecar decoder.json beside its golden.bin, where there is no run.")
flags.DEFINE_integer("num", 4, "Random inputs that gpu and keras compare.", lower_bound=1)
flags.DEFINE_integer(
    "num_audit", 32, "Random inputs that half looks for large numbers with; of 256 x 256 pixels a few.", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "Seed of the random inputs.", lower_bound=0)
flags.DEFINE_bool("verbose", False, "Print the error of every output and the largest number of every tensor.")
flags.DEFINE_bool(
    "require_all",
    os.environ.get("NVAE_REQUIRE_SHARED") == "1",
    "Parts that are not shown count as failed; true by default where the environment has NVAE_REQUIRE_SHARED=1.",
)
flags.mark_flags_as_mutual_exclusive(["run_dir", "reference"])
flags.register_validator(
    "run_dir",
    lambda path: path is None or os.path.isfile(os.path.join(path, "config.json")),
    message="expected a run folder with config.json",
)
flags.register_validator(
    "reference", lambda path: path is None or os.path.isfile(path), message="expected an existing file"
)


# Of a part that fails; --verbose prints all.
_MAX_DETAILS = 20


def show(part, verbose):
    """Prints a part: its verdict, and below it the details of one that fails, or of any where `verbose`."""
    print(f"{part.name:<6} {part.status.value:<9} {part.reason}", flush=True)
    shown = len(part.details) if verbose else _MAX_DETAILS if part.status.value == "FAIL" else 0
    for line in part.details[:shown]:
        print(f"{'':17}{line}", flush=True)
    if 0 < shown < len(part.details):
        print(f"{'':17}and {len(part.details) - shown} more (--verbose)", flush=True)


def main(argv):
    if len(argv) != 2:
        raise app.UsageError(f"expected one FILE and flags. Received: {argv[1:]}")
    path = argv[1]
    if not os.path.isfile(path):
        sys.exit(f"check_tflite.py: FILE: expected an existing file. Received: {path}")
    from nvae_tf.export.tflite.check.gate import Gate, Status

    gate = Gate(
        path=path,
        run_dir=FLAGS.run_dir,
        step=FLAGS.step,
        ema=FLAGS.ema,
        bn_temperature=FLAGS.bn_temperature,
        reference=FLAGS.reference,
        num_draws=FLAGS.num,
        num_audit_draws=FLAGS.num_audit,
        seed=FLAGS.seed,
    )
    bad, status = {Status.FAIL, Status.NOT_SHOWN} if FLAGS.require_all else {Status.FAIL}, 0
    for part in gate.parts():
        show(part, FLAGS.verbose)
        status += EXIT_STATUS[part.name] if part.status in bad else 0
    sys.exit(status)


if __name__ == "__main__":
    app.run(main)
