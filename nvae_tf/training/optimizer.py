"""Adamax and Adam as the original programs compute them, on stacks of variables of equal shape."""

import math

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign

_BETA_1 = 0.9
_BETA_2 = 0.999


class StackedOptimizer(keras.layers.Layer):
    """Adamax or Adam (Kingma & Ba 2015, arXiv 1412.6980) on stacks: a few ops for each shape, not for each variable.

    m <- beta_1 m + (1 - beta_1) g, with beta_1 = 0.9 and beta_2 = 0.999. The rules differ in u and in the step:

        adamax              u <- max(beta_2 u, |g| + epsilon)     lr / c_1 * m / u, where c_i = 1 - beta_i^t
        adamax_uncorrected  u <- max(beta_2 u + epsilon, |g|)     lr * m / u
        adam                u <- beta_2 u + (1 - beta_2) g^2      lr / c_1 * m / (sqrt(u / c_2) + epsilon)

    NVAE and BIVA take the first, IAF-VAE the second and VQ-VAE-2 the third. The L2 decay is added to every gradient.

    Args:
        stacks: `VariableStacks` of the trainable variables.
        rule: one of `OPTIMIZERS` of the configuration. Default `"adamax"`.
        epsilon: see above. Default 1e-3.
        weight_decay: coefficient of the L2 decay. Default 3e-4.

    Attributes:
        moments: pair (m, u) of non-trainable variables [n, ...] for each stack.
        updates: t, the number of updates done.
    """

    def __init__(self, stacks, rule="adamax", epsilon=1e-3, weight_decay=3e-4, **kwargs):
        super().__init__(**kwargs)
        self.stacks = stacks
        self.rule = rule
        self.epsilon = epsilon
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
        count = tf.cast(tf.maximum(updates, 1), tf.float32)
        rate = accept * learning_rate
        if self.rule != "adamax_uncorrected":
            rate /= 1.0 - tf.pow(_BETA_1, count)
        decay, step = accept * self.weight_decay, accept * (1.0 - _BETA_1)
        next_u = self._next_u(accept)
        new_values = []
        for (m_variable, u_variable), gradient, value in zip(self.moments, gradients, values, strict=True):
            # 0 times NaN or infinity is 0 here.
            gradient = tf.math.multiply_no_nan(gradient, factor) + decay * value
            m = tf.convert_to_tensor(m_variable)
            m = m + (gradient - m) * step
            u = next_u(tf.convert_to_tensor(u_variable), gradient)
            assign(m_variable, m)
            assign(u_variable, u)
            # u is 0 until the first update is accepted.
            new_values.append(value - rate * tf.math.divide_no_nan(m, self._denominator(u, count)))
        self.stacks.assign(new_values)
        assign(self.updates, updates)
        return new_values

    def _next_u(self, accept):
        """Function of u and the gradient: u after an update; the same u if `accept` is 0 and the gradient with it."""
        if self.rule == "adam":
            step = accept * (1.0 - _BETA_2)
            return lambda u, gradient: u + (tf.square(gradient) - u) * step
        keep, epsilon = tf.where(tf.cast(accept, tf.bool), _BETA_2, 1.0), accept * self.epsilon
        if self.rule == "adamax_uncorrected":
            return lambda u, gradient: tf.maximum(keep * u + epsilon, tf.abs(gradient))
        return lambda u, gradient: tf.maximum(keep * u, tf.abs(gradient) + epsilon)

    def _denominator(self, u, count):
        if self.rule != "adam":
            return u
        # Without the cancellation in 1 - beta_2^t.
        return tf.sqrt(u / -tf.math.expm1(count * math.log(_BETA_2))) + self.epsilon
