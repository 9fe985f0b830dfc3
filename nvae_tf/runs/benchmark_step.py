"""Speed and memory of training and sampling on this machine; for `benchmark.py`."""

import concurrent.futures
import functools
import math
import multiprocessing
import pathlib
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from nvae_tf.evaluation.likelihood import evaluate
from nvae_tf.evaluation.sampling import sample_images
from nvae_tf.inference.model import refold
from nvae_tf.runs.families import make_model
from nvae_tf.training.trainer import Trainer, configure_runtime


def matrix_product():
    """Function that takes one unit of time: a 2048 x 2048 float32 matrix product."""
    matrix = tf.random.stateless_normal([2048, 2048], (0, 0))
    product = tf.function(lambda: tf.matmul(matrix, matrix))
    return lambda: product().numpy()


def median_seconds(runs, count):
    """Median time of `count` calls of each function in `runs`, {name: function}, after a warm-up call.

    The functions take turns, so that other load on the machine affects all of them.
    """
    seconds = {name: [] for name in runs}
    for call in range(count + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if call:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _trainer(config, strategy):
    """A `Trainer` with random weights, and random images for each replica."""
    configure_runtime()
    with strategy.scope():
        model = make_model(config)
    size = config.model
    shape = (config.train.batch_size, size.image_height, size.image_width, size.image_channels)
    images = tf.constant(np.random.default_rng(0).integers(0, 2, shape), tf.float32)
    return Trainer(model, config.train, 1000, strategy), [images] * strategy.num_replicas_in_sync


def training_speed(config, count, strategy, num_samples=0):
    """Measures a configuration: start-up, training step, sampling, evaluation, and peak memory of this process.

    Args:
        config: `Config`; its batch size is that of a step on each replica, and of a draw.
        count: number of times that each part is timed.
        strategy: `tf.distribute.Strategy`.
        num_samples: K of the bound that is evaluated, beside the NELBO; 0 to evaluate nothing. Default 0.

    Returns:
        {name: number}. `..._units` are times in units of `unit_seconds`, a matrix product measured in turn with the
        others, with which machines can be compared.
    """
    start, batch_size = time.perf_counter(), config.train.batch_size
    trainer, shards = _trainer(config, strategy)
    trainer.advance(*shards)
    start_up = time.perf_counter() - start
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})  # as when sampling
    model = refold(trainer.model)
    runs = {
        "step": lambda: trainer.advance(*shards)["loss"].numpy(),
        "sample": lambda: sample_images(model, batch_size, batch_size=batch_size),
        "unit": matrix_product(),
    }
    evaluations = {"nelbo": 1, f"bound_{num_samples}": num_samples} if num_samples else {}
    for name, samples in evaluations.items():
        runs[name] = functools.partial(evaluate, model, [shards[0].numpy()], samples)
    step, sample, unit, *seconds = median_seconds(runs, count).values()
    rates = {f"{name}_images_per_second": batch_size / one for name, one in zip(evaluations, seconds, strict=True)}
    return {
        "start_up_seconds": start_up,
        "parameters": sum(math.prod(variable.shape) for variable in trainer.model.trainable_variables),
        "step_seconds": step,
        "sample_seconds": sample,
        "unit_seconds": unit,
        "step_units": step / unit,
        "sample_units": sample / unit,
        "images_per_second": batch_size * len(shards) / step,
        **rates,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident(name):
    """Bytes of an entry of /proc/self/status."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _memory_here(config):
    trainer, shards = _trainer(config, tf.distribute.get_strategy())
    trainer.trace(*shards)
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    seconds = median_seconds({"step": lambda: trainer.advance(*shards)}, 3)["step"]
    total = _resident("VmHWM")
    return {"step": total - before, "total": total, "step_seconds": seconds}


def measure_memory(config):
    """Measures the memory of some training steps on one device, in a separate process.

    Returns:
        Dict: "step" (bytes by which the peak exceeds the memory of the built and traced model), "total" (the peak) and
        "step_seconds" (median).
    """
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_here, config).result()
