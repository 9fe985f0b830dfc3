r"""Measures a configuration on this machine: start-up, training step, sampling, memory.

python tools/benchmark.py --config=configs/mnist.py --batch_size=16

One of these measures something else instead:

--memory    memory and time of a training step for each setting that trades one for the other, each in its own process
--estimate  the memory from the graph only, without running anything, for machines that are not at hand
--device    one image of the decoder as TFLite, ONNX, SavedModel and Keras model, on one thread
--serving   a batch from a SavedModel, run as a server does, and from the Keras model
--data      images per second of the data pipeline for each source, and of decoding; needs no --config

Times are also given in units of a 2048 x 2048 float32 matrix product measured in the same run, so that machines can be
compared.
"""

import os

from absl import flags
from ml_collections import config_flags

from nvae_tf.files import write_json
from nvae_tf.runs.benchmark_data import data_table
from nvae_tf.training import memory
from tools.flags import checked_config, run

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; --config.FIELD overrides a field.")
flags.DEFINE_integer("batch_size", 16, "Images of a step, and of a draw.", lower_bound=1)
flags.DEFINE_integer("steps", 10, "Number of steps, draws and matrix products to time.", lower_bound=3)
flags.DEFINE_bool("memory", False, "Measure and estimate the memory of a training step for each setting.")
flags.DEFINE_bool("estimate", False, "Only estimate it; needs no memory for the model and runs nothing.")
flags.DEFINE_bool("data", False, "Measure the data pipeline for each source.")
flags.DEFINE_bool("device", False, "Measure one image of the decoder in every runtime, on one thread.")
flags.DEFINE_bool("serving", False, "Measure a batch drawn by the SavedModel and by the Keras model.")
flags.DEFINE_integer("data_images", 4000, "Images of each source, with --data.", lower_bound=100)
flags.DEFINE_enum("strategy", "one", ["one", "mirrored"], "Devices that train.")
flags.DEFINE_integer("logical_cpus", 0, "Number of devices to split the CPU into, for mirrored.", lower_bound=0)
flags.DEFINE_string("json", None, "File to write the figures to as well.")
flags.register_validator(
    "json",
    lambda path: path is None or os.path.isdir(os.path.dirname(path) or "."),
    message="expected a file in an existing folder",
)


def _memory_table(config, batch_size, measured):
    """Prints a row for each setting; returns {setting: dict of MiB and seconds}.

    Only the float32 settings are measured: half precision is slow on CPUs and says nothing about GPUs there.
    """
    print(f"batch {batch_size}, MiB; state: weights, moments, sums; step: the most that a step adds")
    print(f"{'setting':<56}{'state':>8}{'step':>8}" + f"{'measured step':>16}{'in all':>8}{'seconds':>9}" * measured)
    rows = {}
    for setting in memory.settings(batch_size):
        name = " ".join(f"{field}={value}" for field, value in setting.items())
        changed = memory.with_setting(config, batch_size, setting)
        row = {f"estimated_{part}_mib": size / 2**20 for part, size in memory.estimate(changed).items()}
        line = f"{name:<56}{row['estimated_state_mib']:>8,.0f}{row['estimated_step_mib']:>8,.0f}"
        if measured and setting["precision"] == "float32":
            result = memory.measure_apart(changed)
            row |= {f"measured_{part}_mib": result[part] / 2**20 for part in ("step", "total")}
            row["step_seconds"] = result["step_seconds"]
            line += f"{row['measured_step_mib']:>16,.0f}{row['measured_total_mib']:>8,.0f}{row['step_seconds']:>9.2f}"
        print(line, flush=True)
        rows[name] = row
    return rows


def _speed(config):
    from nvae_tf.runs.benchmark_step import speed
    from nvae_tf.training.distributed.strategy import make_strategy

    strategy = make_strategy(FLAGS.strategy, num_logical_cpus=FLAGS.logical_cpus)
    figures = speed(config, FLAGS.batch_size, FLAGS.steps, strategy)
    for name, value in figures.items():
        print(f"{name:<32}{value:>16,.3f}" if isinstance(value, float) else f"{name:<32}{value:>16,}")
    return figures


def _measure(config):
    if FLAGS.memory or FLAGS.estimate:
        return _memory_table(config, FLAGS.batch_size, not FLAGS.estimate)
    if not FLAGS.device and not FLAGS.serving:
        return _speed(config)
    import tensorflow as tf

    from nvae_tf.runs.benchmark_export import device_speed, serving_speed

    if FLAGS.serving:
        return serving_speed(config, FLAGS.batch_size, FLAGS.steps)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return device_speed(config, FLAGS.steps)


def main():
    if FLAGS.data:
        figures = data_table(FLAGS.data_images, FLAGS.batch_size)
    else:
        figures = _measure(checked_config(_CONFIG))
    if FLAGS.json:
        write_json(FLAGS.json, figures)


if __name__ == "__main__":
    run(main)
