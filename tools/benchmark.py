r"""Measures a configuration on this machine: start-up, training step, sampling, memory.

python tools/benchmark.py --config=configs/mnist.py --batch_size=16 --evaluate

--evaluate  also the images per second of the NELBO, and of the bound with --num_samples samples of each image

Each of these flags measures something else instead:

--memory    memory and time of a training step for each setting that trades one for the other, each in its own process
--estimate  the memory from the graph only, without running anything, for machines that are not available
--data      images per second from prepared records, from memory, and of decoding only; needs no --config

Times are also given in units of a 2048 x 2048 float32 matrix product measured in the same run, so that machines can be
compared.
"""

import dataclasses
import itertools

from absl import flags
from ml_collections import config_flags

from nvae_tf.config import ModelConfig
from nvae_tf.files import write_json
from nvae_tf.runs.benchmark_data import data_table
from tools.flags import checked_config, chosen_strategy, define_devices, define_output, run

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; --config.FIELD overrides a field.")
flags.DEFINE_integer("batch_size", 16, "Number of images in a step, and in a draw.", lower_bound=1)
flags.DEFINE_integer("steps", 10, "Number of steps, draws and matrix products to time.", lower_bound=3)
flags.DEFINE_bool("evaluate", False, "Also measure evaluations: the NELBO, and the bound with --num_samples samples.")
flags.DEFINE_integer("num_samples", 10, "Number K of posterior samples per image for --evaluate.", lower_bound=2)
flags.DEFINE_bool("memory", False, "Measure and estimate the memory of a training step for each setting.")
flags.DEFINE_bool("estimate", False, "Only estimate the memory; runs nothing and needs no memory for the model.")
flags.DEFINE_bool("data", False, "Measure the data pipeline, from prepared records and from memory.")
define_devices(default="one")
_JSON = define_output("File to which the figures are also written.", ".json", name="json")


def _memory_table(config):
    """Prints a row for each setting that trades memory for time; returns {setting: dict of MiB and seconds}.

    Only the float32 settings are measured: half precision is slow on CPUs, where it says nothing about GPUs.
    """
    from nvae_tf.runs.benchmark_step import measure_memory
    from nvae_tf.runs.families import make_model
    from nvae_tf.training.memory import estimate

    print(f"batch {FLAGS.batch_size}, MiB; state: weights, moments, sums; step: the most that a step adds")
    columns = f"{'measured step':>16}{'in all':>8}{'seconds':>9}" if FLAGS.memory else ""
    print(f"{'setting':<56}{'state':>8}{'step':>8}{columns}")
    parts, rows = (1, 4) if FLAGS.batch_size % 4 == 0 else (1,), {}
    remats = ("none", "cells") if isinstance(config.model, ModelConfig) else ("none",)
    for precision, micro_batches, remat in itertools.product(("float32", "mixed_float16"), parts, remats):
        fields = {"remat": remat, "micro_batches": micro_batches, "precision": precision}
        train = dataclasses.replace(config.train, convolution_dtype="float32", **fields)
        changed, name = dataclasses.replace(config, train=train), " ".join(f"{k}={v}" for k, v in fields.items())
        row = {f"estimated_{part}_mib": size / 2**20 for part, size in estimate(changed, make_model).items()}
        line = f"{name:<56}{row['estimated_state_mib']:>8,.0f}{row['estimated_step_mib']:>8,.0f}"
        if FLAGS.memory and precision == "float32":
            result = measure_memory(changed)
            row |= {f"measured_{part}_mib": result[part] / 2**20 for part in ("step", "total")}
            row["step_seconds"] = result["step_seconds"]
            line += f"{row['measured_step_mib']:>16,.0f}{row['measured_total_mib']:>8,.0f}{row['step_seconds']:>9.2f}"
        print(line, flush=True)
        rows[name] = row
    return rows


def _speed(config):
    from nvae_tf.runs.benchmark_step import training_speed

    num_samples = FLAGS.num_samples if FLAGS.evaluate else 0
    figures = training_speed(config, FLAGS.steps, chosen_strategy(), num_samples)
    for name, value in figures.items():
        print(f"{name:<32}{value:>16,.3f}" if isinstance(value, float) else f"{name:<32}{value:>16,}")
    return figures


def main():
    path = _JSON()
    if FLAGS.data:
        figures = data_table(FLAGS.batch_size)
    else:
        config = checked_config(_CONFIG)
        config.train.batch_size = FLAGS.batch_size
        figures = (_memory_table if FLAGS.memory or FLAGS.estimate else _speed)(config)
    if path:
        write_json(path, figures)


if __name__ == "__main__":
    run(main)
