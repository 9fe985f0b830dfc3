"""Memory of a training step, estimated from the graph or measured."""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from nvae_tf.config import config_to_dict, load_config
from nvae_tf.files import write_json

# Settings that trade memory for time.
_SETTINGS = [
    {"remat": remat, "micro_batches": parts, "precision": precision}
    for precision in ("float32", "mixed_float16")
    for parts in (1, 4)
    for remat in ("none", "cells")
]
# Ops whose output shares the memory of their input, and ops that may overwrite an input of the same size that nothing
# else needs any more.
_VIEWS = {"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient", "Unpack", "IdentityN"}
_FORWARDING = {"AddV2", "Sub", "Mul", "RealDiv", "Sigmoid", "SigmoidGrad", "Elu", "EluGrad", "Tanh", "Exp", "BiasAdd"}
_FORWARDING |= {"MulNoNan", "Maximum", "Minimum", "Square", "Sqrt", "Rsqrt", "Neg", "SelectV2", "AddN"}


def settings(batch_size):
    """Settings that fit a batch size, as dicts of fields of `TrainConfig`."""
    return [setting for setting in _SETTINGS if batch_size % setting["micro_batches"] == 0]


def with_setting(config, batch_size, setting):
    """`config` with a batch size and a setting."""
    train = dataclasses.replace(config.train, batch_size=batch_size, convolution_dtype="float32", **setting)
    return dataclasses.replace(config, train=train)


def _bytes(tensor):
    count = tensor.shape.num_elements()
    return 0 if count is None or tensor.dtype.name in ("resource", "variant", "string") else count * tensor.dtype.size


def peak_bytes(operations, kept=()):
    """Largest number of bytes that live tensors take while the operations run in the given order.

    Args:
        operations: operations of a graph, in an order in which they can run.
        kept: tensors that live to the end. Default ().
    """
    root = {}  # tensor -> the tensor whose memory it shares
    for op in operations:
        for output in op.outputs:
            is_view = op.type in _VIEWS and op.inputs
            root[id(output)] = root.get(id(op.inputs[0]), op.inputs[0]) if is_view else output
    last = {}
    for place, op in enumerate(operations):
        for tensor in [*op.inputs, *op.outputs]:
            last[id(root[id(tensor)])] = place
    for tensor in kept:
        last[id(root[id(tensor)])] = len(operations)
    live = peak = 0
    for place, op in enumerate(operations):
        ending = {id(root[id(t)]): root[id(t)] for t in op.inputs if last[id(root[id(t)])] == place}
        made = {id(t): t for t in op.outputs if root[id(t)] is t}
        freed, new = sum(map(_bytes, ending.values())), sum(map(_bytes, made.values()))
        in_place = op.type in _FORWARDING and new in map(_bytes, ending.values())
        peak = max(peak, live + (0 if in_place else new))
        live += new - freed - sum(_bytes(t) for key, t in made.items() if last[key] == place)
    return peak


def estimate(config):
    """Bytes that a training step takes on each device, from traced shapes: no weights are made and nothing is run.

    Args:
        config: `Config`; its batch size, micro-batches, rematerialisation, precision and weight average count.

    Returns:
        Dict of bytes: "state" (weights, moments, averages, sums of micro-batches), "step" (the most that the tensors
        of a step take at one time, including gradients and effective kernels), "total". The memory of the program,
        gaps of the allocator and workspaces of the convolutions are not included.
    """
    import tensorflow as tf

    from nvae_tf.layers.layer import without_values
    from nvae_tf.models.nvae import NVAE
    from nvae_tf.training.step import TrainingStep

    def build():
        model = NVAE(config.model, name="nvae")
        # The average does not change the peak of a step.
        return model, TrainingStep(model, dataclasses.replace(train, ema_decay=0.0))

    train = config.train.resolved()
    model, step = without_values(build)
    size = train.batch_size // train.micro_batches
    shape = (size, config.model.image_height, config.model.image_width, config.model.image_channels)
    stacks = [tf.TensorSpec((len(group), *group[0].shape)) for group in step.parameters.groups]
    noise = [tf.TensorSpec(shape) for shape in model.noise_shapes(size)]
    # Without the spectral term, whose vectors are small and which reads kernels that exist anyway.
    run = tf.function(
        lambda images, noise, values: step.gradients(images, noise, tf.constant(0.5), None, values)[:2],
        autograph=False,
    )
    graph = run.get_concrete_function(tf.TensorSpec(shape), noise, stacks).graph
    copies = 3 + bool(train.ema_decay) + (train.micro_batches > 1)
    state = copies * 4 * sum(tf.TensorShape(variable.shape).num_elements() for variable in model.trainable_variables)
    peak = peak_bytes(graph.get_operations(), graph.outputs)
    return {"state": state, "step": peak, "total": state + peak}


def _resident(name):
    """Bytes of an entry of /proc/self/status."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(config, steps=4):
    """Runs some steps in this process, which should have done nothing else before.

    Returns:
        Dict: "step" (bytes by which the peak exceeds the memory of the built and traced model), "total" (the peak) and
        "step_seconds" (median).
    """
    import numpy as np
    import tensorflow as tf

    from nvae_tf.models.nvae import NVAE
    from nvae_tf.training.trainer import Trainer, configure_runtime

    configure_runtime()
    model = config.model
    shape = (config.train.batch_size, model.image_height, model.image_width, model.image_channels)
    images = tf.constant(np.random.default_rng(0).integers(0, 2, shape).astype(np.float32))
    trainer = Trainer(NVAE(model), config.train, steps_per_epoch=1000)
    trainer.trace(images)
    before, seconds = _resident("VmRSS"), []
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    for _ in range(steps):
        start = time.perf_counter()
        trainer.advance(images)
        seconds.append(time.perf_counter() - start)
    total = _resident("VmHWM")
    return {"step": total - before, "total": total, "step_seconds": statistics.median(seconds[1:])}


def measure_apart(config):
    """`measure` in a separate process."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        write_json(file.name, config_to_dict(config))
        command = [sys.executable, __file__, file.name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring: status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":  # in the process that `measure_apart` starts
    print(json.dumps(measure(load_config(sys.argv[1]))))
