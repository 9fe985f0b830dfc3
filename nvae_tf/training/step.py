"""One training step: forward, objective, gradients and update, all on stacks of equal shape."""

import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.layers.conv import arithmetic_dtype, shared_kernels
from nvae_tf.objectives.elbo import training_loss
from nvae_tf.objectives.regularizers import SpectralRegularizer, batch_norm_regularization
from nvae_tf.training.optimizer import StackedAdamax
from nvae_tf.training.parameters import ParameterStacks


class TrainingStep:
    """A model with all that its training keeps: optimiser moments and the power iteration's vectors.

    Args:
        model: built `NVAE`.
        config: `TrainConfig`.

    Attributes:
        parameters: `ParameterStacks`.
        optimizer: `StackedAdamax`.
        spectral: `SpectralRegularizer`.
    """

    def __init__(self, model, config):
        self.model = model
        self.config = config
        self.parameters = ParameterStacks(model)
        self.optimizer = StackedAdamax(self.parameters, config.weight_decay, name="optimizer")
        self.spectral = SpectralRegularizer(model.kernel_stacks, config.seed, name="spectral")
        self._balance_scales = hierarchy.kl_balance_scales(model.model_config)

    def gradients(self, images, noise, kl_weight, regularization):
        """Objective and its gradients; updates the batch norms' statistics and the power iteration.

        Args:
            images: [B, H, W, C] in [0, 1].
            noise: standard normals in generation order.
            kl_weight: scalar in (0, 1].
            regularization: lambda of the spectral and the batch-norm term; None leaves both out.

        Returns:
            A dict of the terms, the values of the parameter stacks, and their gradients.
        """
        values = self.parameters.read()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            kernels = self.parameters.effective_kernels(values)
            # Inside the scope each variable is a row of its stack, so gradients come out stacked.
            with self.parameters.scope(values) as scope, shared_kernels(self.model.kernel_stacks, kernels):
                with arithmetic_dtype(self.config.convolution_dtype):
                    output = self.model(images, noise=noise, training=True)
                terms = training_loss(self.model, images, output, kl_weight, self._balance_scales)
            total = terms.loss
            report = {**terms._asdict(), "kl_per_channel": tf.reduce_mean(output.kl_per_channel, axis=0)}
            if regularization is not None:
                with tape.stop_recording():
                    vectors = self.spectral.iterate(kernels)
                report["spectral"] = self.spectral(kernels, vectors)
                report["batch_norm"] = batch_norm_regularization(self.parameters.batch_norm_scales(values))
                total += regularization * (report["spectral"] + report["batch_norm"])
        report["loss"] = total
        gradients = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self._update_statistics(scope)
        return report, values, gradients

    def _update_statistics(self, scope):
        for norm in self.model.batch_norms:
            for variable in (norm.moving_mean, norm.moving_variance):
                variable.assign(scope.get_current_value(variable))

    def update(self, images, noise, kl_weight, regularization, learning_rate):
        """`gradients`, then one step of the optimiser; returns the dict of terms, all from before the update."""
        report, values, gradients = self.gradients(images, noise, kl_weight, regularization)
        self.optimizer.apply(gradients, values, learning_rate)
        return report
