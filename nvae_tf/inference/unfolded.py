"""A model that does not fold, as evaluation and sampling use a folded one."""

import tensorflow as tf


class UnfoldedModel:
    """A copy of an `ImageModel` with the methods of `InferenceModel` that evaluation and sampling call.

    Attributes:
        model_config, config, averaged, restored_step: see `ImageModel`.
    """

    def __init__(self, model):
        self._model = type(model).from_config(model.get_config())
        self.model_config = model.model_config
        self.assign(model)

    def assign(self, model):
        """Takes the weights of another model of the same configuration; traced functions stay valid."""
        for variable, value in zip(self._model.variables, model.variables, strict=True):
            variable.assign(value)

    def noise_shapes(self, batch_size):
        """Shape [B, ...] of each latent's noise, in generation order."""
        return self._model.noise_shapes(batch_size)

    def likelihood(self, params):
        """Distribution p(x | z) of images, from likelihood parameters."""
        return self._model.likelihood(params)

    def encode(self, images):
        """Features of images: a list of tensors [B, ...]."""
        return self._model.encode(images)

    def generate(self, noise, temperature=None):
        """Likelihood parameters [B, H, W, P] of samples from the prior; arguments as for `InferenceModel.generate`."""
        return self._model.generate(noise=noise, temperature=1.0 if temperature is None else temperature)

    def decode(self, latents):
        """Likelihood parameters [B, H, W, P] from the z of each latent."""
        return self._model.decode(latents)

    def infer(self, images, noise=None):
        """Encodes images and decodes posterior samples; see `infer_features`."""
        return self.infer_features(self.encode(images), noise)

    def infer_features(self, features, noise=None):
        """`infer` from the result of `encode`.

        Args:
            features: result of `encode`.
            noise: standard normals [B, ...] in generation order; None for the means of the posteriors. Default None.

        Returns:
            Likelihood parameters [B, H, W, P] and the list `ModelOutput.groups`.
        """
        if noise is None:
            noise = [tf.zeros(shape) for shape in self.noise_shapes(tf.shape(features[0])[0])]
        output = self._model.infer(features, noise)
        return output.likelihood_params, output.groups
