"""One training step: forward pass, objective, gradients and update, all on stacks of variables of equal shape."""

import contextlib

import tensorflow as tf

from nvae_tf.layers.kernels import (
    ARITHMETIC_DTYPE,
    COMPUTE_DTYPE,
    VariableStacks,
    group_by,
    setting,
    shared_kernels,
    split_by_size,
)
from nvae_tf.layers.rematerialize import REMATERIALIZING
from nvae_tf.layers.replicas import assign, mean_over_replicas
from nvae_tf.objectives.elbo import training_loss
from nvae_tf.objectives.regularizers import SpectralRegularizer, batch_norm_regularization
from nvae_tf.training.average import WeightAverage
from nvae_tf.training.guards import Guards
from nvae_tf.training.optimizer import StackedOptimizer


class ParameterStacks(VariableStacks):
    """Every trainable variable of a model, stacked by shape and role.

    Kernels that are normalised together form one stack, and so do their log norms; the others are grouped by shape and
    name.
    """

    def __init__(self, model):
        self._kernel_stacks = model.kernel_stacks
        kernel_groups = [group for kernels in model.kernel_stacks for group in kernels.variables]
        grouped = {id(variable) for group in kernel_groups for variable in group}
        rest = [variable for variable in model.trainable_variables if id(variable) not in grouped]
        rest_groups = group_by(rest, lambda variable: (tuple(variable.shape), variable.name))
        super().__init__(
            kernel_groups + [part for group in rest_groups for part in split_by_size(group, group[0].shape)]
        )

    def effective_kernels(self, values):
        """Effective kernels of the model's kernel stacks, from the values of the stacks."""
        values = iter(values)
        return [kernels.effective(*(next(values) for _ in kernels.variables)) for kernels in self._kernel_stacks]

    def batch_norm_scales(self, values):
        """The stacks [n, C] of the batch norms' scales."""
        return [value for group, value in zip(self.groups, values, strict=True) if group[0].name == "gamma"]


class TrainingStep:
    """A built `ImageModel` with all the state of its training: moments, power iteration, guards and weight average.

    `config` is a resolved `TrainConfig`.

    Attributes:
        spectral: `SpectralRegularizer`, or None for a model without kernel stacks, which has no regularisers.
        average: `WeightAverage`, or None without `ema_decay`.
        state: {part: layer or model} whose variables are the state of the run.
    """

    def __init__(self, model, config):
        self.model = model
        self.config = config
        self.parameters = ParameterStacks(model)
        rule = (config.optimizer, config.epsilon, config.weight_decay)
        self.optimizer = StackedOptimizer(self.parameters, *rule, name="optimizer")
        self.guards = Guards(config, name="guards")
        self.state = {"model": model, "optimizer": self.optimizer}
        self.spectral = self.average = None
        if model.kernel_stacks:
            self.spectral = SpectralRegularizer(model.kernel_stacks, config.seed, name="spectral")
            self.state["spectral"] = self.spectral
        self.state["guards"] = self.guards
        if config.ema_decay:
            self.average = WeightAverage(model, self.parameters, config.ema_decay, config.ema_warmup, name="ema")
            self.state["ema"] = self.average

    def gradients(self, images, noise, kl_weight, regularization, values=None):
        """Computes the objective and its gradients on this replica's batch, and updates only the power iteration.

        Args:
            images: [B, H, W, C] in [0, 1].
            noise: standard normals in generation order.
            kl_weight: scalar in (0, 1].
            regularization: lambda of the spectral and the batch-norm term, if the model has them; None leaves both out.
            values: values of the parameter stacks; None reads the variables. Default None.

        Returns:
            A dict of the terms; the gradients of the parameter stacks, multiplied by the loss scale; and pairs of
            one of the model's `statistics` and its new value.
        """
        config = self.config
        values = self.parameters.read() if values is None else values
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            kernels = self.parameters.effective_kernels(values)
            # Their type is that of the activations.
            shared = shared_kernels(self.model.kernel_stacks, [tf.cast(one, config.compute_dtype) for one in kernels])
            # Inside the scope each variable is a row of its stack, so gradients come out stacked.
            with self.parameters.scope(values) as scope:
                with shared, self._settings():
                    output = self.model(images, noise=noise, training=True)
                statistics = [(variable, scope.get_current_value(variable)) for variable in self.model.statistics]
                terms = training_loss(self.model, images, output, kl_weight)
            total = terms.loss
            report = {**terms._asdict(), "kl_per_channel": tf.reduce_mean(output.kl_per_channel, axis=0)}
            if self.spectral is not None and regularization is not None:
                report["spectral"] = self.spectral(kernels)
                report["batch_norm"] = batch_norm_regularization(self.parameters.batch_norm_scales(values))
                total += regularization * (report["spectral"] + report["batch_norm"])
            target = total * tf.convert_to_tensor(self.guards.loss_scale) if self.guards.scales_loss else total
        report["loss"] = total
        gradients = tape.gradient(target, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return report, gradients, [(variable, value) for variable, value in statistics if value is not None]

    @contextlib.contextmanager
    def _settings(self):
        """Context of the forward pass: the types that `config` sets, and rematerialisation."""
        config = self.config
        arithmetic = None if config.convolution_dtype == "float32" else config.convolution_dtype
        with setting(ARITHMETIC_DTYPE, arithmetic), setting(COMPUTE_DTYPE, config.compute_dtype):
            with setting(REMATERIALIZING, config.remat == "cells"):
                yield

    def update(self, images, noise, kl_weight, regularization, learning_rate, stop=0.0):
        """Computes `gradients`, averages them over the replicas and takes one step of the optimiser.

        Returns:
            Dict of the terms before the update, averaged over the replicas; `stop` is positive if any replica passed a
            positive `stop`, which requests a stop after the step.
        """
        values = self.parameters.read()
        report, gradients, statistics = self.gradients(images, noise, kl_weight, regularization, values)
        return self.apply(report, values, gradients, statistics, learning_rate, stop)

    def apply(self, report, values, gradients, statistics, learning_rate, stop=0.0):
        """Averages terms and gradients over the replicas and updates everything, unless the guards skip the step."""
        report = {**report, "stop": tf.convert_to_tensor(stop, tf.float32)}
        # Averaged before it is judged: what is not finite on one replica becomes so on all of them.
        exchanged = mean_over_replicas([*report.values(), *gradients])
        report = dict(zip(report, exchanged, strict=False))
        gradients = exchanged[len(report) :]
        verdict = self.guards.judge(report["loss"], gradients)
        learning_rate *= tf.convert_to_tensor(self.guards.learning_rate_factor)
        updates = tf.convert_to_tensor(self.optimizer.updates)
        values = self.optimizer.apply(gradients, values, learning_rate, verdict.factor, verdict.accept)
        accepted = verdict.accept > 0
        for variable, value in statistics:
            assign(variable, tf.where(accepted, value, tf.convert_to_tensor(variable)))
        if self.average is not None:
            self.average.update(values, updates, verdict.accept)
        return {**report, "learning_rate": learning_rate, **self.guards.update(verdict)}
