"""The numbers that the converted model of an official checkpoint computes, named as in the original program."""

import dataclasses
from functools import cached_property

import numpy as np
import tensorflow as tf

from nvae_tf.convert.apply import match, model_from_checkpoint
from nvae_tf.convert.name_map import UNUSED_START, name_map
from nvae_tf.convert.reference_numbers import channels_last
from nvae_tf.objectives.elbo import training_loss
from nvae_tf.objectives.regularizers import batch_norm_regularization
from nvae_tf.training.step import TrainingStep

_POWER_ROUNDS = 200
_POWER_BLOCKS = 100
_POWER_CHANGE = 1e-6


class Reproduction:
    """Results of the model of a checkpoint for given images and noise, each computed on first use.

    Args:
        checkpoint: `OfficialCheckpoint`.
        images: [B, C, H, W] in [0, 1].
        noise: standard normals [B, latent_channels, h, w] of each group, in generation order.

    Attributes:
        model: the `NVAE`, with the checkpoint's weights.
        inference: `ModelOutput` of the images in inference mode.
        variables: the model's variables, by official name.
        unused: official names of parameters in the file that no result depends on.

    Raises:
        ConversionError: the checkpoint cannot be converted.
        ValueError: images or noise do not fit its model.
    """

    def __init__(self, checkpoint, images, noise):
        self.model = model_from_checkpoint(checkpoint)
        self._checkpoint = checkpoint
        self.images = channels_last(images).astype(np.float32)
        self.noise = [channels_last(eps).astype(np.float32) for eps in noise]
        self.variables = name_map(self.model)
        self._names = {id(variable): name for name, variable in self.variables.items()}
        self.unused = set() if self.model.decoder.has_start else {UNUSED_START}
        self._gradients = {}
        self.inference = self.model(self.images, noise=self.noise)

    def _reset(self):
        for variable, array in match(self._checkpoint.arrays, self.model):
            variable.assign(array)

    @cached_property
    def reconstruction_loss(self):
        """-log p(x | z) in inference mode [B], nats."""
        return -self.model.likelihood(self.inference.likelihood_params).log_prob(self.images)

    def sample(self, temperature):
        """Likelihood parameters from the prior at a temperature."""
        return self.model.generate(noise=self.noise, temperature=temperature)

    @cached_property
    def _training(self):
        output = self.model(self.images, noise=self.noise, training=True)
        statistics = {self._names[id(variable)]: variable.numpy() for variable in self.model.statistics}
        self._reset()
        return output, statistics

    training = property(lambda self: self._training[0], doc="`ModelOutput` of the images in training mode.")
    statistics = property(lambda self: self._training[1], doc="Batch-norm statistics after it, by official name.")

    def training_terms(self, kl_weight):
        """`TrainingLoss` at a KL weight, without the regularisers."""
        return training_loss(self.model, self.images, self.training, tf.constant(kl_weight, tf.float32))

    @cached_property
    def _step(self):
        return TrainingStep(self.model, self.model.config.train)

    def gradients(self, kl_weight):
        """Gradients of the training loss without regularisers, by official name, in this project's layout."""
        if kl_weight not in self._gradients:
            step = self._step
            _, stacks, _ = step.gradients(self.images, self.noise, tf.constant(kl_weight, tf.float32), None)
            self._reset()
            rows = step.parameters.rows(stacks)
            self._gradients[kl_weight] = {self._names[id(variable)]: row.numpy() for variable, row in rows}
        return self._gradients[kl_weight]

    def spectral(self):
        """Sum of the largest singular values, by the regulariser's power iteration run until it converges."""
        step = self._step
        kernels = step.parameters.effective_kernels(step.parameters.read())
        run = tf.function(lambda: step.spectral(kernels, rounds=_POWER_ROUNDS))
        last, value = 0.0, float(run())
        for _ in range(_POWER_BLOCKS):
            if abs(value - last) <= _POWER_CHANGE * abs(value):
                break
            last, value = value, float(run())
        return value

    def batch_norm_loss(self):
        """Sum over batch norms of the largest absolute scale."""
        parameters = self._step.parameters
        return batch_norm_regularization(parameters.batch_norm_scales(parameters.read()))

    def trajectory(self, learning_rate, weight_decay, kl_weight, steps):
        """Training loss before each step of Adamax, without regularisers or schedules."""
        step = TrainingStep(self.model, dataclasses.replace(self.model.config.train, weight_decay=weight_decay))
        weight = tf.constant(kl_weight, tf.float32)
        run = tf.function(lambda: step.update(self.images, self.noise, weight, None, learning_rate)["loss"])
        losses = [float(run()) for _ in range(steps)]
        self._reset()
        return np.array(losses)
