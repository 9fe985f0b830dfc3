"""Moving average of the weights."""

import contextlib

import keras
import tensorflow as tf

from nvae_tf.layers.kernels import VariableStacks


class WeightAverage(keras.layers.Layer):
    """Exponential moving average of every trainable variable of a model (Polyak & Juditsky 1992).

    With `warmup` the decay at update t is min(decay, (1 + t) / (10 + t)), so that the first values are soon forgotten;
    otherwise it is constant. Running batch-norm statistics are averages already and are not averaged again.

    `stacks` are those of the model's trainable variables. Each average has the path of its variable, with this layer's
    name in place of the model's.
    """

    def __init__(self, model, stacks, decay, warmup=True, **kwargs):
        super().__init__(**kwargs)
        self.decay = decay
        self.warmup = warmup
        # Neither the model nor lists of its variables: Keras would count the variables as this layer's own.
        self._sources = stacks
        self.averages = [
            [self._average_of(variable, variable.path.removeprefix(f"{model.name}/")) for variable in group]
            for group in stacks.groups
        ]
        self._stacks = VariableStacks(self.averages)
        self.built = True

    def _average_of(self, variable, path):
        *scopes, name = path.split("/")
        with contextlib.ExitStack() as stack:
            for scope in (self.name, *scopes):
                stack.enter_context(keras.name_scope(scope))
            # A copy: given a variable, Keras would use the variable itself.
            return keras.Variable(tf.identity(variable.value), trainable=False, dtype="float32", name=name)

    def restart(self):
        """Sets the averages to the model's present weights."""
        self._stacks.assign(self._sources.read())

    def update(self, values, updates, accept):
        """Moves the averages towards the stacks `values` [n, ...] after `updates` updates, unless `accept` is 0."""
        updates, decay = tf.cast(updates, tf.float32), self.decay
        if self.warmup:
            decay = tf.minimum(decay, (1.0 + updates) / (10.0 + updates))
        rate = (1.0 - decay) * accept
        averages = zip(self._stacks.read(), values, strict=True)
        self._stacks.assign([average + rate * (value - average) for average, value in averages])

    def apply(self):
        """Makes the averages the model's weights."""
        for group, averages in zip(self._sources.groups, self.averages, strict=True):
            for variable, average in zip(group, averages, strict=True):
                variable.assign(average.value)

    @contextlib.contextmanager
    def applied(self):
        """Context manager within which the averages are the model's weights; its own are restored exactly on exit."""
        variables = [variable for group in self._sources.groups for variable in group]
        kept = [tf.identity(variable.value) for variable in variables]
        try:
            self.apply()
            yield
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)
