import keras
import numpy as np
import tensorflow as tf

from nvae_tf.layers.stacking import VariableStacks, group_by, stack


def _groups():
    values = [[("kernel", [1.0, 2.0]), ("kernel", [5.0, 6.0])], [("bias", [3.0, 4.0])], [("kernel", [7.0])]]
    return [[keras.Variable(value, name=name) for name, value in group] for group in values]


def test_group_by_keeps_the_order_of_first_appearance():
    assert group_by(["bb", "a", "cc", "d", "eee"], len) == [["bb", "cc"], ["a", "d"], ["eee"]]


def test_stack_of_one_and_of_many():
    kernels = _groups()[0]
    np.testing.assert_array_equal(stack(kernels[:1]), [[1, 2]])
    np.testing.assert_array_equal(stack(kernels), [[1, 2], [5, 6]])


def test_read_gives_one_tensor_for_each_group():
    assert [values.numpy().tolist() for values in VariableStacks(_groups()).read()] == [
        [[1, 2], [5, 6]],
        [[3, 4]],
        [[7]],
    ]


def test_scope_replaces_values_and_carries_gradients():
    groups = _groups()
    stacks = VariableStacks(groups)
    values = [10.0 * value for value in stacks.read()]
    with tf.GradientTape() as tape:
        tape.watch(values)
        with stacks.scope(values):
            total = tf.reduce_sum(groups[0][1].value ** 2) + tf.reduce_sum(groups[1][0].value)
    np.testing.assert_allclose(total, 50.0**2 + 60.0**2 + 70.0)
    gradients = tape.gradient(total, values, unconnected_gradients="zero")
    assert [gradient.numpy().tolist() for gradient in gradients] == [[[0, 0], [100, 120]], [[1, 1]], [[0]]]
    np.testing.assert_array_equal(groups[0][1].numpy(), [5, 6])


def test_assign_sets_every_variable_to_its_row():
    groups = _groups()
    stacks = VariableStacks(groups)
    stacks.assign([value + 1.0 for value in stacks.read()])
    assert [[v.numpy().tolist() for v in group] for group in groups] == [[[2, 3], [6, 7]], [[4, 5]], [[8]]]
