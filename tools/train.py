r"""Trains a model.

python tools/train.py --config=configs/mnist.py --run_dir=runs/mnist --data_dir=data --config.train.batch_size=100

The same command resumes the run from its last checkpoint. Ctrl-C or SIGTERM finishes the step, saves, and exits with
status 75; a second one stops at once. By default every visible GPU is used. Two workers on one machine:

python tools/train.py ... --workers=localhost:12345,localhost:12346 --worker_index=0 &
python tools/train.py ... --workers=localhost:12345,localhost:12346 --worker_index=1
"""

import contextlib
import os
import sys

from absl import flags
from ml_collections import config_flags

from nvae_tf.files import only_writer
from nvae_tf.runs.interruption import EXIT_STATUS, Interruption
from tools.flags import checked_config, chosen_strategy, define_data_dir, define_devices, define_path, run

FLAGS = flags.FLAGS

define_path("run_dir", None, "Folder of the run to create or resume.", required=True)
define_data_dir()
define_devices("multi_worker")
flags.DEFINE_list("workers", None, "HOST:PORT of every worker, the same list on each; instead of TF_CONFIG.")
flags.DEFINE_integer("worker_index", None, "Index of this worker, from 0.", lower_bound=0)
flags.DEFINE_bool("jit_compile", False, "Compile the step with XLA; for GPUs (on CPUs it is slow).")
flags.DEFINE_list("profile", None, "START,STOP: write a TensorBoard profile of the steps after START, up to STOP.")
flags.DEFINE_float(
    "watchdog_minutes", 10.0, "Print every thread's stack when no step has finished for this long; 0: never.", 0
)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file; --config.train.batch_size=100 overrides any field."
)


@flags.validator("profile", message="expected START,STOP, two steps with 0 <= START < STOP")
def _is_profile(value):
    if value is None:
        return True
    return len(value) == 2 and all(step.isdigit() for step in value) and int(value[0]) < int(value[1])


def main():
    config = checked_config(_CONFIG)
    several = FLAGS.workers or any(name == "TF_CONFIG" or name.startswith("SLURM_") for name in os.environ)
    with Interruption() as interruption, contextlib.ExitStack() as held:
        from nvae_tf.runs.prepare import check_has_optimizer, prepare

        check_has_optimizer(FLAGS.run_dir)
        if not several:
            held.enter_context(only_writer(FLAGS.run_dir))
        from nvae_tf.training.distributed.cluster import find_workers
        from nvae_tf.training.distributed.strategy import worker_index

        workers = find_workers(FLAGS.workers, FLAGS.worker_index)
        if workers:
            print(f"waiting for {len(workers)} workers: {', '.join(workers)}", flush=True)
        strategy = chosen_strategy(workers)
        interruption.listen()
        if several and worker_index(strategy) == 0:  # the only one that writes
            held.enter_context(only_writer(FLAGS.run_dir))
        where = (FLAGS.cache_dir, FLAGS.accept_changed_data)
        training = prepare(config, FLAGS.run_dir, FLAGS.data_dir, interruption, strategy, FLAGS.jit_compile, *where)
        training.watchdog_seconds = 60 * FLAGS.watchdog_minutes
        training.run(profile=FLAGS.profile and tuple(map(int, FLAGS.profile)))
    if training.stopped:
        sys.exit(EXIT_STATUS)


if __name__ == "__main__":
    run(main)
