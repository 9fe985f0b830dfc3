"""The model as everything but training runs and exports it: float32, with all exact folding done."""

import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.distributions import image_likelihood
from nvae_tf.inference.blocks import Convolution, InferenceCell, apply
from nvae_tf.inference.folding import fold
from nvae_tf.inference.groups import InferenceGroup
from nvae_tf.inference.unfolded import UnfoldedModel


class InferenceModel(tf.Module):
    """A folded `NVAE` in TensorFlow operations, without weight norm, batch norm and everything for training.

    It agrees with the inference mode of the NVAE up to rounding. It has no Keras layers; weights are `tf.Variable`s.

    Attributes:
        model_config: the `ModelConfig`.
        folded: `{description of what was folded: number of times}`.
        config, averaged, restored_step: as those of an `NVAE`; set by `nvae_tf.runs.load.load_folded`.

    Example:

        model = InferenceModel(fold(nvae_tf.load_run("runs/mnist")))
        params = model.generate(noise, temperature=tf.fill([16], 0.7))
        pictures = model.likelihood(params).mean()
    """

    def __init__(self, folded):
        super().__init__(name="nvae")
        self.model_config, self.folded = folded.model_config, folded.counts
        self.stem, self.top = Convolution(folded.stem), Convolution(folded.top)
        self.encoder = [[InferenceCell(cell) for cell in cells] for cells in folded.encoder]
        self.groups = [InferenceGroup(group) for group in folded.groups]
        self.postprocess = [InferenceCell(cell) for cell in folded.postprocess]
        self.likelihood_head = Convolution(folded.likelihood_head)

    def assign(self, folded):
        """Takes the weights of another `FoldedNVAE` of the same configuration; traced functions stay valid."""
        for variable, value in zip(self.variables, InferenceModel(folded).variables, strict=True):
            variable.assign(value)

    def noise_shapes(self, batch_size):
        """Shape [B, h, w, latent_channels] of each group's noise, in generation order."""
        return hierarchy.noise_shapes(self.model_config, batch_size)

    def likelihood(self, params):
        """Distribution p(x | z); see `NVAE.likelihood`."""
        return image_likelihood(self.model_config, params)

    def generate(self, noise, temperature=None):
        """Likelihood parameters [B, H, W, P] of samples from the prior.

        Args:
            noise: standard normals [B, h, w, latent_channels] in generation order; None in place of one sets that group
                to the mean of its prior. Group 0 must have noise.
            temperature: factor of every prior's scale [B] or [B, 1, 1, 1], or a list of one for each group; None for 1.
                Default None.
        """
        state, count = None, len(self.groups)
        temperatures = temperature if isinstance(temperature, list) else [temperature] * count
        for group, eps, one in zip(self.groups, noise, map(_as_factor, temperatures), strict=True):
            state = group.generate(state, eps, one)
        return self.finish(state)

    def decode(self, latents):
        """Likelihood parameters [B, H, W, P] from the z of each group; see `NVAE.decode`."""
        state = None
        for group, latent in zip(self.groups, latents, strict=True):
            state = group.decode(state, latent)
        return self.finish(state)

    def infer(self, images, noise=None, temperature=None):
        """Encodes images and decodes posterior samples.

        Args:
            images: [B, H, W, C] in [0, 1], padding included.
            noise: standard normals [B, h, w, latent_channels] in generation order; None for the means of the
                posteriors. Default None.
            temperature: factor of every posterior's scale [B] or [B, 1, 1, 1]; None for 1. Default None.

        Returns:
            Likelihood parameters [B, H, W, P] and the list of the groups' `GroupTerms`.
        """
        return self.infer_features(self.encode(images), noise, temperature)

    def infer_features(self, features, noise=None, temperature=None):
        """`infer` from the result of `encode`."""
        state, temperature, terms = None, _as_factor(temperature), []
        noise = [None] * len(self.groups) if noise is None else noise
        for group, feature, eps in zip(self.groups, features, noise, strict=True):
            state, group_terms = group.infer(state, feature, eps, temperature)
            terms.append(group_terms)
        return self.finish(state), terms

    def encode(self, images):
        """Features of images: the encoder's for the posterior of each group, in generation order."""
        x, features = self.stem(2.0 * images - 1.0), []
        for cells in self.encoder:
            x = apply(cells, x)
            features.append(x)
        # The feature of group 0 passes through the top.
        return [tf.nn.elu(self.top(tf.nn.elu(x))), *reversed(features[:-1])]

    def finish(self, state):
        """Likelihood parameters [B, H, W, P] from the state after the last group."""
        return self.likelihood_head(tf.nn.elu(apply(self.postprocess, state)))


def refold(model, folded=None, strategy=None):
    """A model for everything but training, with the present weights of an `ImageModel`.

    Args:
        model: `NVAE`, or a model of another family.
        folded: what an earlier call for this model returned: it takes the weights, and its traced functions stay valid.
            Default None, a new one.
        strategy: `tf.distribute.Strategy` in whose scope a new one is created; None for the current. Default None.

    Returns:
        `InferenceModel`, or `UnfoldedModel` of a model that does not fold.
    """
    if folded is None:
        with (strategy or tf.distribute.get_strategy()).scope():
            return InferenceModel(fold(model)) if model.folds else UnfoldedModel(model)
    folded.assign(fold(model) if model.folds else model)
    return folded


def _as_factor(temperature):
    return None if temperature is None else tf.reshape(temperature, [-1, 1, 1, 1])
