r"""Measures a configuration on this machine: start-up, training step, sampling, memory.

With --memory: what a training step takes, and how long, for each setting that trades one for the other, each in a
process of its own. With --estimate: the same from the graph alone, nothing run, for machines that are not at hand.

With --device: one image of the decoder as TFLite, ONNX, SavedModel and Keras model, on one thread. With --serving: a
batch from a SavedModel in a Session, as a server draws it, beside the Keras model.

With --data, which needs no --config: images per second of the data pipeline alone, by source, beside decoding alone.

python tools/benchmark.py --data
python tools/benchmark.py --config=configs/mnist.py --batch_size=16
python tools/benchmark.py --config=configs/mnist.py --device
python tools/benchmark.py --config=configs/mnist.py --serving
python tools/benchmark.py --config=configs/cifar10.py --batch_size=16 --config.model.encoder_channels=32 \
    --config.model.decoder_channels=32 --config.model.groups_per_scale=8

Times are also given in units of a 2048 x 2048 float32 matrix product measured in the same run, so that machines
compare.
"""

import math
import os
import resource
import statistics
import time

from absl import flags
from ml_collections import config_flags

from nvae_tf.files import write_json
from nvae_tf.runs.benchmark_data import data_table
from nvae_tf.runs.benchmark_device import device_table
from nvae_tf.runs.benchmark_serving import serving_table
from nvae_tf.training import memory
from tools.flags import checked_config, run

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file; --config.FIELD overrides a field.")
flags.DEFINE_integer("batch_size", 16, "Images of a step, and of a draw.", lower_bound=1)
flags.DEFINE_integer("steps", 10, "Steps, draws and matrix products that are timed.", lower_bound=3)
flags.DEFINE_integer("intra_op_threads", 0, "Threads inside an op; 0 for TensorFlow's choice.", lower_bound=0)
flags.DEFINE_integer("inter_op_threads", 0, "Ops at a time; 0 for TensorFlow's choice.", lower_bound=0)
flags.DEFINE_bool("memory", False, "Measure and estimate the memory of a training step for each setting instead.")
flags.DEFINE_bool("estimate", False, "Only estimate it; needs no memory for the model and runs nothing.")
flags.DEFINE_bool("data", False, "Measure the data pipeline by source instead.")
flags.DEFINE_bool("device", False, "Measure one image of the decoder in every runtime instead, on one thread.")
flags.DEFINE_bool("serving", False, "Measure a batch drawn by the SavedModel and by the Keras model instead.")
flags.DEFINE_integer("data_images", 4000, "Images of each source, with --data.", lower_bound=100)
flags.DEFINE_enum("strategy", "one", ["one", "mirrored"], "Devices that train.")
flags.DEFINE_integer("logical_cpus", 0, "Split the CPU into so many devices, for mirrored.", lower_bound=0)
flags.DEFINE_string("json", None, "File to write the figures to as well.")
flags.register_validator(
    "json",
    lambda path: path is None or os.path.isdir(os.path.dirname(path) or "."),
    message="expected a file in an existing folder",
)

_MATMUL_SIZE = 2048


def median_seconds(function, count):
    """Median time of `count` calls of a function that returns a tensor, after one that is not counted."""
    function()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        function().numpy()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def forward_flops(model):
    """Floating-point operations (a multiply-add is two) of convolutions and matrix products for one image.

    Counted in the graph of the forward pass with posterior samples.
    """
    import tensorflow as tf

    config = model.model_config
    shape = (1, config.image_height, config.image_width, config.image_channels)
    noise = [tf.zeros(s) for s in model.noise_shapes(1)]
    graph = tf.function(lambda x: model(x, noise=noise).likelihood_params, autograph=False)
    total = 0
    for op in graph.get_concrete_function(tf.TensorSpec(shape)).graph.get_operations():
        if op.type == "Conv2D":
            kernel = op.inputs[1].shape
            total += 2 * op.outputs[0].shape[1:3].num_elements() * kernel.num_elements()
        elif op.type == "DepthwiseConv2dNative":
            total += 2 * op.outputs[0].shape[1:].num_elements() * op.inputs[1].shape[:2].num_elements()
        elif op.type == "MatMul":
            total += 2 * math.prod(op.inputs[0].shape.as_list()) * op.outputs[0].shape[-1]
    return total


class Benchmark:
    """The measurements of one configuration; `figures` collects them.

    Args:
        config: `Config`.
        batch_size: images of a step, of each replica.
        count: how often each thing is timed.
        strategy: `tf.distribute.Strategy`; the current one if None. Default None.
    """

    def __init__(self, config, batch_size, count, strategy=None):
        import tensorflow as tf

        self.config, self.batch_size, self.count = config, batch_size, count
        self.strategy = strategy or tf.distribute.get_strategy()
        matrix = tf.random.stateless_normal([_MATMUL_SIZE, _MATMUL_SIZE], (0, 0))
        self._product = tf.function(lambda: tf.matmul(matrix, matrix))
        self.num_images = batch_size * self.strategy.num_replicas_in_sync
        self.figures = {}
        self._units = [self.unit()]

    def unit(self):
        """Seconds of one matrix product."""
        return median_seconds(self._product, self.count)

    def train(self):
        """Start-up and step."""
        import numpy as np

        from nvae_tf.models.nvae import NVAE
        from nvae_tf.training.trainer import Trainer, configure_runtime

        configure_runtime()
        model_config = self.config.model
        shape = (self.batch_size, model_config.image_height, model_config.image_width, model_config.image_channels)
        images = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
        start = time.perf_counter()
        with self.strategy.scope():
            model = NVAE(model_config)
        trainer = Trainer(model, self.config.train, 1000, self.strategy)
        shards = [images] * self.strategy.num_replicas_in_sync
        built = time.perf_counter()
        trainer.advance(*shards)
        first = time.perf_counter()
        self.figures["build_seconds"] = built - start
        self.figures["trace_and_first_step_seconds"] = first - built
        self.figures["start_up_seconds"] = first - start
        self.figures["parameters"] = sum(math.prod(v.shape) for v in model.trainable_variables)
        self.figures["step_seconds"] = median_seconds(lambda: trainer.advance(*shards)["loss"], self.count)
        self._units.append(self.unit())
        return model

    def sample(self, model):
        """Drawing a batch of images (their means), the weights evaluated before."""
        import tensorflow as tf

        from nvae_tf.evaluation.sampling import sample_images

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
        size, kernels = self.batch_size, model.effective_kernels()
        draw = lambda: tf.constant(sample_images(model, size, batch_size=size, kernels=kernels))  # noqa: E731
        self.figures["sample_seconds"] = median_seconds(draw, self.count)
        self._units.append(self.unit())

    def finish(self, model):
        """Ratios, from the times measured."""
        figures, unit = self.figures, statistics.median(self._units)
        figures["forward_gflop_per_image"] = forward_flops(model) / 1e9
        figures["unit_seconds"] = unit
        figures["unit_spread"] = max(self._units) / min(self._units)
        figures["step_units"] = figures["step_seconds"] / unit
        figures["sample_units"] = figures["sample_seconds"] / unit
        figures["images_per_second"] = self.num_images / figures["step_seconds"]
        # A backward pass costs about two forward passes.
        work = 3 * figures["forward_gflop_per_image"] * self.num_images
        figures["gflop_per_second"] = work / figures["step_seconds"]
        figures["fraction_of_matmul"] = figures["gflop_per_second"] / (2 * _MATMUL_SIZE**3 / 1e9 / unit)
        figures["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_table(config, batch_size, measured):
    """Prints a row for each setting; returns {setting: dict of MiB and seconds}.

    Args:
        config: `Config`.
        batch_size: images of a step.
        measured: run the float32 settings too; half precision is slow on CPUs and tells nothing there.
    """
    print(f"batch {batch_size}, MiB; state: weights, moments, sums; step: the most that a step adds")
    print(f"{'setting':<56}{'state':>8}{'step':>8}" + f"{'measured step':>16}{'in all':>8}{'seconds':>9}" * measured)
    rows = {}
    for setting in memory.settings(batch_size, ("float32", "mixed_float16")):
        name = " ".join(f"{field}={value}" for field, value in setting.items())
        changed = memory.with_setting(config, batch_size, setting)
        estimated = memory.estimate(changed)
        row = {f"estimated_{part}_mib": size / 2**20 for part, size in estimated.items()}
        line = f"{name:<56}{row['estimated_state_mib']:>8,.0f}{row['estimated_step_mib']:>8,.0f}"
        if measured and setting["precision"] == "float32":
            result = memory.measure_apart(changed)
            row |= {f"measured_{part}_mib": result[part] / 2**20 for part in ("step", "total")}
            row["step_seconds"] = result["step_seconds"]
            line += f"{row['measured_step_mib']:>16,.0f}{row['measured_total_mib']:>8,.0f}{row['step_seconds']:>9.2f}"
        print(line, flush=True)
        rows[name] = row
    return rows


def main():
    if FLAGS.data:
        figures = data_table(FLAGS.data_images, FLAGS.batch_size)
    else:
        config = checked_config(_CONFIG)
        if FLAGS.device:
            figures = device_table(config, FLAGS.steps)
        elif FLAGS.serving:
            figures = serving_table(config, FLAGS.batch_size, FLAGS.steps)
        elif FLAGS.memory or FLAGS.estimate:
            figures = memory_table(config, FLAGS.batch_size, not FLAGS.estimate)
        else:
            figures = speed(config)
    if FLAGS.json:
        write_json(FLAGS.json, figures)


def speed(config):
    """Measures, prints and returns start-up, step, sampling and memory."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.inter_op_threads)
    from nvae_tf.training.distributed.strategy import make_strategy

    strategy = make_strategy(FLAGS.strategy, num_logical_cpus=FLAGS.logical_cpus)
    benchmark = Benchmark(config, FLAGS.batch_size, FLAGS.steps, strategy)
    model = benchmark.train()
    benchmark.sample(model)
    benchmark.finish(model)
    for name, value in benchmark.figures.items():
        print(f"{name:<32}{value:>16,.3f}" if isinstance(value, float) else f"{name:<32}{value:>16,}")
    return benchmark.figures


if __name__ == "__main__":
    run(main)
