"""Speed of training and sampling on this machine; for `benchmark.py`."""

import math
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.models.nvae import NVAE
from nvae_tf.training.trainer import Trainer, configure_runtime

_MATMUL_SIZE = 2048


def matrix_product():
    """Function that takes one unit of time: a 2048 x 2048 float32 matrix product."""
    matrix = tf.random.stateless_normal([_MATMUL_SIZE, _MATMUL_SIZE], (0, 0))
    product = tf.function(lambda: tf.matmul(matrix, matrix))
    return lambda: product().numpy()


def median_seconds(runs, count):
    """Median time of `count` calls of each function, after one that does not count.

    The functions take turns, so that other load on the machine affects all of them.

    Args:
        runs: {name: function without arguments}.
        count: number of calls of each.
    """
    seconds = {name: [] for name in runs}
    for call in range(count + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if call:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def forward_flops(model):
    """Floating-point operations (two for a multiply-add) of convolutions and matrix products for one image.

    Counted in the graph of the forward pass with posterior samples.
    """
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


def _train(config, batch_size, strategy, count):
    """(model, figures) of start-up and training step."""
    configure_runtime()
    model_config = config.model
    shape = (batch_size, model_config.image_height, model_config.image_width, model_config.image_channels)
    images = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    start = time.perf_counter()
    with strategy.scope():
        model = NVAE(model_config)
    trainer = Trainer(model, config.train, 1000, strategy)
    shards = [images] * strategy.num_replicas_in_sync
    built = time.perf_counter()
    trainer.advance(*shards)
    first = time.perf_counter()
    step = median_seconds({"step": lambda: trainer.advance(*shards)["loss"].numpy()}, count)["step"]
    return model, {
        "build_seconds": built - start,
        "trace_and_first_step_seconds": first - built,
        "start_up_seconds": first - start,
        "parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "step_seconds": step,
    }


def _sample(model, batch_size, count):
    """Seconds to draw a batch of images (the means of the likelihood), the kernels being computed before."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    kernels = model.effective_kernels()
    draw = {"sample": lambda: sample_images(model, batch_size, batch_size=batch_size, kernels=kernels)}
    return median_seconds(draw, count)["sample"]


def speed(config, batch_size, count, strategy):
    """Figures of a configuration: start-up, training step, sampling, and peak memory of this process.

    Args:
        config: `Config`.
        batch_size: images of a step on each replica, and of a draw.
        count: how often each thing is timed.
        strategy: `tf.distribute.Strategy`.

    Returns:
        {name: number}. `..._units` are times in units of `unit_seconds`, a matrix product measured in between, with
        which machines can be compared.
    """
    product, units = {"unit": matrix_product()}, []

    def measure_unit():
        units.append(median_seconds(product, count)["unit"])

    measure_unit()
    model, figures = _train(config, batch_size, strategy, count)
    measure_unit()
    figures["sample_seconds"] = _sample(model, batch_size, count)
    measure_unit()
    unit, num_images = statistics.median(units), batch_size * strategy.num_replicas_in_sync
    figures["forward_gflop_per_image"] = forward_flops(model) / 1e9
    figures["unit_seconds"] = unit
    figures["unit_spread"] = max(units) / min(units)
    figures["step_units"] = figures["step_seconds"] / unit
    figures["sample_units"] = figures["sample_seconds"] / unit
    figures["images_per_second"] = num_images / figures["step_seconds"]
    # A backward pass costs about two forward passes.
    figures["gflop_per_second"] = 3 * figures["forward_gflop_per_image"] * figures["images_per_second"]
    figures["fraction_of_matmul"] = figures["gflop_per_second"] / (2 * _MATMUL_SIZE**3 / 1e9 / unit)
    figures["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures
