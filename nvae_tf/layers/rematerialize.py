"""Rematerialisation: the activations inside a layer are recomputed in the backward pass instead of being kept."""

import contextvars

import keras
import tensorflow as tf

from nvae_tf.layers.conv import Conv2D
from nvae_tf.layers.kernels import given_kernels, setting

# Whether cells keep only their input for the backward pass.
REMATERIALIZING = contextvars.ContextVar("rematerializing", default=False)


def recompute(layer, function, inputs):
    """Computes function(inputs) in the forward pass and again in the backward pass.

    The kernels must be given (`kernels.given_kernels`), and the variables must get their values from a
    `keras.StatelessScope`: everything that the layer reads is passed as tensors, so that gradients reach it. Only the
    forward pass updates batch-norm statistics.

    `layer` must be built and own every variable that `function`, a function of one tensor [B, H, W, C], reads.
    """
    convolutions = [part for part in layer._flatten_layers() if isinstance(part, Conv2D)]
    replaced = {id(getattr(conv, name, None)) for conv in convolutions for name in ("kernel", "log_norm")}
    trained = [variable for variable in layer.trainable_variables if id(variable) not in replaced]
    statistics = layer.non_trainable_variables
    kernels = [conv.effective_kernel() for conv in convolutions]
    count = len(kernels)

    def forward(x, *tensors):
        mapping = zip([*trained, *statistics], tensors[count:], strict=True)
        with keras.StatelessScope(state_mapping=list(mapping), initialize_variables=False) as scope:
            with setting(REMATERIALIZING, False), given_kernels(convolutions, tensors[:count]):
                outputs = function(x)
            return outputs, [scope.get_current_value(variable) for variable in statistics]

    # The backward pass runs outside the contexts of the forward pass.
    context = contextvars.copy_context()

    @tf.custom_gradient
    def run(x, *tensors):
        outputs, updated = forward(x, *tensors)

        def gradient(upstream, *unused):
            # The second pass must neither start before the gradient exists nor be merged with the first. A zero that
            # is computed from the gradient ensures both; XLA ignores control dependencies.
            one = tf.cast(tf.reshape(upstream, [-1])[0], tf.bool)
            zero = tf.where(tf.equal(one, one), 0.0, float("nan"))
            again = [x + tf.cast(zero, x.dtype), *tensors]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(again)
                repeated, _ = context.copy().run(forward, *again)
            return tape.gradient(repeated, again, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return (outputs, *updated), gradient

    values = [tf.convert_to_tensor(variable) for variable in [*trained, *statistics]]
    outputs, *updated = run(tf.convert_to_tensor(inputs), *kernels, *values)
    for variable, value in zip(statistics, updated, strict=True):
        variable.assign(value)
    return outputs
