r"""Trains a model.

python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=data --config.train.batch_size=100

The same command goes on from the last checkpoint. Ctrl-C or SIGTERM finishes the step, saves and exits with status 75;
once more stops at once. By default every visible GPU is used; two workers on one machine:

python tools/train.py ... --coordinator=localhost:12345 --num_workers=2 --worker_index=0 &
python tools/train.py ... --coordinator=localhost:12345 --num_workers=2 --worker_index=1
"""

import os

from absl import flags
from ml_collections import config_flags

from nvae_tf.runs.interruption import Interruption
from tools.flags import checked_config, run

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Folder of the run: made, or gone on with.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the data set's files; the data set `digits` needs none.")
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one", "mirrored", "multi_worker"],
    "Devices: one, every GPU of this machine, or of every worker; auto takes all that are there.",
)
flags.DEFINE_string("coordinator", None, "HOST:PORT of worker 0, where the workers meet; instead of TF_CONFIG.")
flags.DEFINE_integer("num_workers", None, "Workers in all, with --coordinator.", lower_bound=1)
flags.DEFINE_integer("worker_index", None, "Which worker this is, from 0, with --coordinator.", lower_bound=0)
flags.DEFINE_integer("logical_cpus", 0, "Split the CPU into so many devices, to try mirrored.", lower_bound=0)
flags.DEFINE_bool("jit_compile", False, "Compile the step by XLA; for GPUs (on CPUs it is slow).")
flags.DEFINE_list("profile", None, "START,STOP: write a TensorBoard profile of the steps after START, up to STOP.")
flags.DEFINE_float("watchdog_minutes", 10.0, "Log when no step has finished for so long; 0 for never.", lower_bound=0)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file; --config.train.batch_size=100 overrides any field."
)


@flags.validator("profile", message="expected START,STOP, two steps with 0 <= START < STOP")
def _is_profile(value):
    if value is None:
        return True
    if len(value) != 2 or not all(step.isdigit() for step in value):
        return False
    return int(value[0]) < int(value[1])


def _prepare(config, interruption):
    from nvae_tf.runs.prepare import prepare
    from nvae_tf.training.distributed.cluster import resolve_cluster
    from nvae_tf.training.distributed.strategy import make_strategy

    if FLAGS.coordinator:
        print(f"worker {FLAGS.worker_index}: waiting for all {FLAGS.num_workers} at {FLAGS.coordinator}", flush=True)
    cluster = resolve_cluster(os.environ, FLAGS.coordinator, FLAGS.num_workers, FLAGS.worker_index)
    strategy = make_strategy(FLAGS.strategy, cluster, FLAGS.logical_cpus)
    interruption.listen()
    return prepare(config, FLAGS.run_dir, FLAGS.data_dir, interruption, strategy, FLAGS.jit_compile)


def main():
    # TensorFlow takes seconds to import: wrong flags are reported first.
    config = checked_config(_CONFIG)
    profile = FLAGS.profile and tuple(map(int, FLAGS.profile))
    from nvae_tf.runs.program import train

    with Interruption() as interruption:
        watchdog_seconds = 60 * FLAGS.watchdog_minutes
        train(lambda: _prepare(config, interruption), interruption, profile=profile, watchdog_seconds=watchdog_seconds)


if __name__ == "__main__":
    run(main)
