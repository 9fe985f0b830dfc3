"""Gradient accumulation: a step in micro-batches needs less memory for the same number of images."""

import keras
import tensorflow as tf

from nvae_tf.layers.replicas import assign


class GradientAccumulator(keras.layers.Layer):
    """Sums the terms and gradients over the micro-batches of a step, in variables on each replica.

    The model's `statistics` are computed for each micro-batch and applied one after the other, unless they are not
    finite. The power iteration of the spectral term advances with every micro-batch.
    """

    def __init__(self, step, count, **kwargs):
        super().__init__(**kwargs)
        self._step = step
        self.count = count
        # One [n, ...] sum for each stack of parameters, and one variable for each term.
        self._sums = [
            self.add_weight((len(group), *group[0].shape), "zeros", trainable=False, name=f"gradient_{index}")
            for index, group in enumerate(step.parameters.groups)
        ]
        shapes = step.model.noise_shapes(1)
        groups, channels = len(shapes), max(shape[-1] for shape in shapes)
        regularizers = () if step.spectral is None else ("spectral", "batch_norm")
        self._shapes = {name: () for name in ("loss", "reconstruction", "kl", *regularizers)}
        self._shapes |= {name: (groups,) for name in ("kl_per_group", "kl_coefficients")}
        self._shapes["kl_per_channel"] = (groups, channels)
        self._terms = [
            self.add_weight(shape, "zeros", trainable=False, name=name) for name, shape in self._shapes.items()
        ]
        self.built = True

    def add(self, index, images, noise, kl_weight, regularization):
        """Adds micro-batch `index`, a scalar tensor, of the images and noise of the whole step."""
        size = images.shape[0] // self.count
        part = slice(index * size, (index + 1) * size)
        noise = [eps[part] for eps in noise]
        report, gradients, statistics = self._step.gradients(images[part], noise, kl_weight, regularization)
        kept = tf.cast(index > 0, tf.float32)
        values = [*(report[name] for name in self._shapes), *gradients]
        for variable, value in zip([*self._terms, *self._sums], values, strict=True):
            # Sums of the previous step count as 0 even if they are not finite.
            before = tf.math.multiply_no_nan(tf.convert_to_tensor(variable), kept)
            assign(variable, before + value / self.count)
        for variable, value in statistics:
            finite = tf.reduce_all(tf.math.is_finite(value))
            assign(variable, tf.where(finite, value, tf.convert_to_tensor(variable)))

    def apply(self, learning_rate, stop=0.0):
        """Updates the model with the means over the micro-batches; see `TrainingStep.apply`."""
        report = dict(zip(self._shapes, map(tf.convert_to_tensor, self._terms), strict=True))
        gradients = [tf.convert_to_tensor(variable) for variable in self._sums]
        return self._step.apply(report, self._step.parameters.read(), gradients, (), learning_rate, stop)
