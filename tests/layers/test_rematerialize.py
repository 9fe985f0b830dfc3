"""Tensors kept for the backward pass of a cell; tests/training/test_step.py compares gradients and statistics."""

import keras
import pytest
import tensorflow as tf

from nvae_tf.layers.cells import CELL_OPERATIONS, Cell
from nvae_tf.layers.kernels import kernel_stacks, setting, shared_kernels
from nvae_tf.layers.rematerialize import REMATERIALIZING


@pytest.fixture(scope="module")
def cell():
    cell = Cell(CELL_OPERATIONS["res_mbconv"].decoder, 4)
    cell.build((2, 8, 8, 4))
    return cell


def _forward(cell, x, active, training=True):
    mapping = [(variable, tf.convert_to_tensor(variable)) for variable in cell.variables]
    convolutions = [layer for layer in cell._flatten_layers() if hasattr(layer, "effective_kernel")]
    with keras.StatelessScope(state_mapping=mapping, initialize_variables=False):
        stacks = kernel_stacks(convolutions)
        with shared_kernels(stacks, [one.effective() for one in stacks]), setting(REMATERIALIZING, active):
            return cell(x, training=training)


def _backward_inputs(cell, active, training=True):
    """Names of forward tensors [2, 8, 8, C] read by the backward pass, and the number of its depthwise convolutions."""

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = _forward(cell, x, active, training)
        boundary = len(x.graph.get_operations())
        gradient = tape.gradient(y, x)
        operations = x.graph.get_operations()
        forward = {tensor.name for op in operations[:boundary] for tensor in op.outputs}
        read = [tensor for op in operations[boundary:] for tensor in op.inputs if tensor.name in forward]
        maps = {tensor.name for tensor in read if tensor.shape.rank == 4 and tensor.shape[1:3] == (8, 8)}
        again = sum(op.type == "DepthwiseConv2dNative" for op in operations[boundary:])
        found.append((maps, again))
        return gradient

    found = []
    run.get_concrete_function(tf.TensorSpec((2, 8, 8, 4)))
    return found[0]


def test_only_the_input_is_kept_and_the_rest_computed_again(cell):
    kept, again = _backward_inputs(cell, active=False)
    assert len(kept) > 4 and again == 2  # the gradients of the input and of the filters
    kept, again = _backward_inputs(cell, active=True)
    assert kept == {"x:0"} and again == 3


def test_xla_does_not_merge_the_two_passes(cell):
    def convolutions(active):
        @tf.function(autograph=False, jit_compile=True)
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(tf.square(_forward(cell, x, active)))
            return y, tape.gradient(y, x)

        text = run.experimental_get_compiler_ir(tf.ones((2, 8, 8, 4)))(stage="optimized_hlo")
        return text.count(" convolution(") + text.count("__cublas$") + text.count(" dot(")

    assert convolutions(True) >= convolutions(False) + 2


def test_inference_is_not_recomputed(cell):
    assert _backward_inputs(cell, True, training=False) == _backward_inputs(cell, False, training=False)
