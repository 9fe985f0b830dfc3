"""The model as it is exported: float32, inference alone, everything folded that can be folded exactly."""

import numpy as np
import tensorflow as tf

from nvae_tf import hierarchy
from nvae_tf.distributions.likelihood import image_likelihood
from nvae_tf.inference.blocks import Convolution, InferenceCell, apply
from nvae_tf.inference.folding import Folding
from nvae_tf.inference.groups import InferenceGroup


class _Encoder(tf.Module):
    """Features for the posteriors, of images [B, H, W, C] in [0, 1]."""

    def __init__(self, encoder, folding):
        super().__init__()
        self.stem = Convolution(folding.linear(encoder.stem))
        self.preprocess = [InferenceCell(cell, folding) for cell in encoder.preprocess]
        self.group_cells, self.down_cells = [], []
        for cells, down in encoder.stages():
            self.group_cells.append([InferenceCell(cell, folding) for cell in cells])
            self.down_cells.append(None if down is None else InferenceCell(down, folding))
        self.top = Convolution(folding.linear(encoder.top))

    def __call__(self, images):
        x = apply(self.preprocess, self.stem(2.0 * images - 1.0))
        features = []
        for cells, down in zip(self.group_cells, self.down_cells, strict=True):
            x = apply(cells, x)
            features.append(x)
            if down is not None:
                x = down(x)
        # The last feature goes through the top instead: it is the input of group 0's posterior.
        return [tf.nn.elu(self.top(tf.nn.elu(x))), *reversed(features[:-1])]


class InferenceModel(tf.Module):
    """An `NVAE` for use: weight norm and batch norm evaluated and folded, nothing of training left.

    It agrees with the NVAE's inference mode to rounding. No Keras layer is in it; weights are `tf.Variable`s.

    Args:
        nvae: `NVAE` with the weights and batch-norm statistics to export (`nvae_tf.load_run` chooses them).

    Attributes:
        model_config: the `ModelConfig`.
        folded: `{what was folded: how often}`, in the order of the layers.

    Example:

        model = InferenceModel(nvae_tf.load_run("runs/mnist"))
        params = model.generate(noise, temperature=tf.fill([16], 0.7))
        pictures = model.likelihood(params).mean()
    """

    def __init__(self, nvae):
        super().__init__(name="nvae")
        self.model_config = nvae.model_config
        effective = {}
        for stack in nvae.kernel_stacks:
            effective.update(zip(map(id, stack.layers), np.asarray(stack.effective()), strict=True))
        folding = Folding(effective)
        decoder = nvae.decoder
        self.encoder = _Encoder(nvae.encoder, folding)
        start = np.asarray(decoder.start) if decoder.has_start else None
        self.ups, self.groups = [], []
        for up, group in decoder.stages():
            self.ups.append(None if up is None else InferenceCell(up, folding))
            self.groups.append(InferenceGroup(group, start, folding))
        self.postprocess = [InferenceCell(cell, folding) for cell in decoder.postprocess]
        self.likelihood_head = Convolution(folding.linear(decoder.likelihood_head))
        self.folded = dict(folding.counts)

    def noise_shapes(self, batch_size):
        """Shape [B, h, w, latent_channels] of each group's noise, in generation order."""
        return hierarchy.noise_shapes(self.model_config, batch_size)

    def likelihood(self, params):
        """Distribution p(x | z), as `NVAE.likelihood`."""
        return image_likelihood(self.model_config, params)

    def generate(self, noise, temperature=None):
        """Likelihood parameters [B, H, W, P] of samples of the prior.

        Args:
            noise: standard normals [B, h, w, latent_channels] in generation order; None in the place of a group's puts
                that group at its prior's mean. Group 0 must have its noise.
            temperature: factor of every prior's scale [B] or [B, 1, 1, 1]; None for 1. Default None.
        """
        state, temperature = None, _as_factor(temperature)
        for up, group, eps in zip(self.ups, self.groups, noise, strict=True):
            state = group.generate(state if up is None else up(state), eps, temperature)
        return self._finish(state)

    def decode(self, latents):
        """Likelihood parameters [B, H, W, P] from the z of each group, as `NVAE.decode`."""
        state = None
        for up, group, latent in zip(self.ups, self.groups, latents, strict=True):
            state = group.decode(state if up is None else up(state), latent)
        return self._finish(state)

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
        state, temperature, terms = None, _as_factor(temperature), []
        noise = [None] * len(self.groups) if noise is None else noise
        for up, group, feature, eps in zip(self.ups, self.groups, self.encoder(images), noise, strict=True):
            state = state if up is None else up(state)
            state, group_terms = group.infer(state, feature, eps, temperature)
            terms.append(group_terms)
        return self._finish(state), terms

    def _finish(self, state):
        return self.likelihood_head(tf.nn.elu(apply(self.postprocess, state)))


def _as_factor(temperature):
    return None if temperature is None else tf.reshape(temperature, [-1, 1, 1, 1])
