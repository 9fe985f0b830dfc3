"""Adamax as the original program computes it, on stacks of variables of equal shape."""

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-3


class StackedAdamax(keras.layers.Layer):
    """Adamax on stacks of variables: a few ops for each shape instead of each variable.

    u <- max(beta_2 u, |g| + epsilon) without bias correction, step lr / (1 - beta_1^t) * m / u (Kingma & Ba 2015,
    algorithm 2, with the epsilon inside the maximum). The L2 decay is added to every gradient.

    Args:
        stacks: `VariableStacks` of the trainable variables.
        weight_decay: coefficient of the L2 decay. Default 3e-4.

    Attributes:
        moments: pair (m, u) of non-trainable variables [n, ...] for each stack.
        updates: t, the number of updates done.
    """

    def __init__(self, stacks, weight_decay=3e-4, **kwargs):
        super().__init__(**kwargs)
        self.stacks = stacks
        self.weight_decay = weight_decay
        self.moments = []
        for index, group in enumerate(stacks.groups):
            shape = (len(group), *group[0].shape)
            self.moments.append(tuple(self._zeros(shape, f"{letter}_{index}") for letter in "mu"))
        self.updates = self._zeros((), "updates", "int64")
        self.built = True

    def _zeros(self, shape, name, dtype="float32"):
        return self.add_weight(shape, "zeros", dtype, trainable=False, autocast=False, name=name)

    def apply(self, gradients, values, learning_rate, factor=1.0, accept=1.0):
        """Performs one update, from the gradient and the current value [n, ...] of each stack.

        Args:
            factor: scalar factor of the gradients; must be 0 if `accept` is. Default 1.
            accept: scalar; 0 leaves weights, moments and `updates` unchanged to the bit, whatever the gradients. There
                is no branch: every term is multiplied by a scalar anyway. Default 1.

        Returns:
            The new values of the stacks.
        """
        updates = tf.convert_to_tensor(self.updates) + tf.cast(accept, tf.int64)
        powers = tf.pow(_BETA_1, tf.cast(tf.maximum(updates, 1), tf.float32))
        rate = accept * learning_rate / (1.0 - powers)
        decay, epsilon, step = accept * self.weight_decay, accept * _EPSILON, accept * (1.0 - _BETA_1)
        keep = tf.where(tf.cast(accept, tf.bool), _BETA_2, 1.0)
        new_values = []
        for (m_variable, u_variable), gradient, value in zip(self.moments, gradients, values, strict=True):
            # 0 times NaN or infinity is 0 here.
            gradient = tf.math.multiply_no_nan(gradient, factor) + decay * value
            m = tf.convert_to_tensor(m_variable)
            m = m + (gradient - m) * step
            u = tf.maximum(keep * tf.convert_to_tensor(u_variable), tf.abs(gradient) + epsilon)
            assign(m_variable, m)
            assign(u_variable, u)
            # u is 0 until the first update is accepted.
            new_values.append(value - rate * tf.math.divide_no_nan(m, u))
        self.stacks.assign(new_values)
        assign(self.updates, updates)
        return new_values
