"""Memory of a training step, estimated from its graph."""

import dataclasses

# Ops whose output shares the memory of their input, and ops that may overwrite an input of the same size that nothing
# else needs any more.
_VIEWS = {"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient", "Unpack", "IdentityN"}
_FORWARDING = {"AddV2", "Sub", "Mul", "RealDiv", "Sigmoid", "SigmoidGrad", "Elu", "EluGrad", "Tanh", "Exp", "BiasAdd"}
_FORWARDING |= {"MulNoNan", "Maximum", "Minimum", "Square", "Sqrt", "Rsqrt", "Neg", "SelectV2", "AddN"}


def _bytes(tensor):
    count = tensor.shape.num_elements()
    return 0 if count is None or tensor.dtype.name in ("resource", "variant", "string") else count * tensor.dtype.size


def peak_bytes(operations, kept):
    """Returns the peak number of bytes in live tensors while the operations run in the given order.

    The tensors in `kept` stay live to the end.
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


def estimate(config, make_model):
    """Estimates the memory of a training step on each device by tracing it: no weights are created, nothing runs.

    Args:
        config: `Config`; its batch size, micro-batches, rematerialisation, precision and weight average matter.
        make_model: function that makes the `ImageModel` of a `Config`.

    Returns:
        Dict of bytes: "state" (weights, moments, averages, sums of micro-batches), "step" (the most that the tensors
        of a step take at one time, including gradients and effective kernels), "total". The memory of the program,
        fragmentation and the workspaces of the convolutions are not included.
    """
    import tensorflow as tf

    from nvae_tf.layers.layer import without_values
    from nvae_tf.training.step import TrainingStep

    train = config.train.resolved()
    # Without the average, which does not change the peak of a step.
    step = without_values(lambda: TrainingStep(make_model(config), dataclasses.replace(train, ema_decay=0.0)))
    model = step.model
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
