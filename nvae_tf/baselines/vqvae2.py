"""VQ-VAE-2 (Razavi, van den Oord & Vinyals 2019, arXiv 1906.00446), as a hierarchical VAE with discrete latents.

The posterior is a delta at the nearest codes, so log q(z | x) = 0, and in place of the KL of a level stands -log p of
its codes, by the level's prior and given the next coarser codes. -log p(x | z) - log p(z) is therefore an upper bound
of -log p(x), whatever the priors have learnt, and the importance-weighted bound is the same for any number of samples.
"""

import math
import typing

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf import hierarchy
from nvae_tf.baselines.code_priors import nll_per_level
from nvae_tf.baselines.pixel_snail import PixelSnail
from nvae_tf.baselines.vq_autoencoder import LEVEL_NAMES, CodeAutoencoder
from nvae_tf.distributions import NormalLikelihood
from nvae_tf.layers.kernels import COMPUTE_DTYPE
from nvae_tf.models.image_model import ImageModel
from nvae_tf.models.output import ModelOutput

_PLACES = 1000  # numbers for dropout that each prior may use


class CodeTerms(typing.NamedTuple):
    """The codes of one level, and their terms of the objective.

    Attributes:
        latent: the codes as whole numbers, float32 [B, h, w, 1].
        vectors: what the decoder gets for them [B, h, w, code_size].
        nll: -log p(codes | coarser codes) [B], nats.
        commitment: mean squared distance of the encoder's vectors to the codebook's [B].
    """

    latent: tf.Tensor
    vectors: tf.Tensor
    nll: tf.Tensor
    commitment: tf.Tensor

    @property
    def kl_per_channel(self):
        """The `nll` [B, 1], which stands where a VAE has a KL."""
        return self.nll[:, tf.newaxis]

    @property
    def log_q(self):
        """Log probability of the codes under the posterior [B], which is 0."""
        return tf.zeros_like(self.nll)

    @property
    def log_p(self):
        """Log probability of the codes under the prior [B], nats."""
        return -self.nll


@keras.saving.register_keras_serializable("nvae_tf")
class VQVAE2(ImageModel):
    """VQ-VAE-2 with its priors, which are trained together in nats, or one after the other as published.

    Args:
        config: `VQVAE2Config`, or a dict of its fields.
        stage: what is trained: all with `"joint"`; with `"autoencoder"` there are no priors, and all codes are equally
            likely; `"prior"` keeps the autoencoder and its codebooks as they are. Default `"joint"`.

    Input: images [B, H, W, C], float32 in [0, 1]. Output: `ModelOutput` with `CodeTerms` of each level, coarsest first.
    A latent is the codes of a level, as whole numbers [B, h, w, 1]. Its noise, standard normals of that shape,
    determines them by the inverse of their distribution function.
    """

    def __init__(self, config, stage="joint", **kwargs):
        super().__init__(config, **kwargs)
        config = self.model_config
        self.stage = stage
        is_mixture = config.likelihood == "logistic_mixture"
        filters = hierarchy.num_likelihood_parameters(config) if is_mixture else config.image_channels
        self.autoencoder = CodeAutoencoder(config, filters, name="autoencoder")
        names = () if stage == "autoencoder" else LEVEL_NAMES[config.num_levels]
        self.priors = [self._make_prior(level, f"prior_{name}") for level, name in enumerate(names)]
        self.build()

    def _make_prior(self, level, name):
        config = self.model_config
        return PixelSnail(
            num_codes=config.num_codes,
            channels=config.prior_channels,
            residual_channels=config.prior_residual_channels,
            kernel_size=config.prior_kernel_size,
            num_blocks=config.prior_blocks,
            num_residuals=config.prior_residual_blocks,
            attention=level == 0,
            condition_channels=config.condition_channels if level else 0,
            condition_blocks=config.condition_blocks,
            output_blocks=config.prior_output_blocks,
            dropout_rate=config.prior_dropout,
            place=level * _PLACES,
            name=name,
        )

    def build(self, input_shape=None):
        for part in (self.autoencoder, *self.priors):
            part.build()
        self.autoencoder.trainable = self.stage != "prior"
        self.built = True

    def get_config(self):
        return super().get_config() | {"stage": self.stage}

    @property
    def data_dependent(self):
        """Whether the first batch gives the codebooks."""
        return self.stage != "prior"

    @property
    def statistics(self):
        """The codebooks with their counts and sums."""
        if self.stage == "prior":
            return []
        return [variable for quantizer in self.autoencoder.quantizers for variable in quantizer.state]

    def encode(self, images, training=False):
        """The codes of images: a list with the fields of each level's `CodeTerms`, one after the other.

        Args:
            images: [B, H, W, C] in [0, 1].
            training: see `call`.
        """
        images = tf.cast(2.0 * self._check_images(images) - 1.0, COMPUTE_DTYPE.get())
        levels = self.autoencoder.encode(images, training=training and self.stage != "prior")
        nlls = self._nll_per_level([level.codes for level in levels])
        terms = [
            CodeTerms(tf.cast(level.codes, tf.float32)[..., tf.newaxis], level.vectors, nll, level.commitment)
            for level, nll in zip(levels, nlls, strict=True)
        ]
        return [part for level in terms for part in level]

    def infer(self, features, noise=None, training=False):
        """Decodes the codes of images.

        Args:
            features: result of `encode`.
            noise: without effect, since the posterior is a delta. Default None.
            training: without effect. Default False.

        Returns:
            `ModelOutput`.
        """
        size = len(CodeTerms._fields)
        groups = [CodeTerms(*features[start : start + size]) for start in range(0, len(features), size)]
        return ModelOutput.of_groups(self._pixels([group.vectors for group in groups]), groups)

    def _pixels(self, vectors):
        return tf.cast(self.autoencoder.decode(vectors), tf.float32)

    def _nll_per_level(self, codes):
        """-log p of the codes of each level given the coarser ones [B], nats."""
        if not self.priors:
            sizes = map(math.prod, self.model_config.latent_shapes)
            return [tf.fill([tf.shape(codes[0])[0]], size * math.log(self.model_config.num_codes)) for size in sizes]
        return nll_per_level(self.priors, codes)

    def weighted_kl(self, output, kl_weight):
        """What training adds to the reconstruction: the weighted KL, and the commitment, which is no part of the NELBO.

        Returns:
            Their sum [B], nats, and the coefficient of each level's KL [levels].
        """
        config = self.model_config
        # Relative to the squared error of a Normal likelihood in nats, sum (x - m)^2 / (2 sigma^2).
        weight = config.commitment * hierarchy.num_outputs(config) / (2.0 * config.sigma**2)
        commitment = weight * tf.add_n([group.commitment for group in output.groups])
        kl = kl_weight * tf.reduce_sum(output.kl_per_group, axis=1)
        return kl + commitment, tf.fill([config.num_levels], tf.cast(kl_weight, tf.float32))

    def _generate(self, noise, temperatures, training):
        return self._draw(noise, [tf.convert_to_tensor(value, tf.float32) for value in temperatures])

    # A function, because TensorFlow would run the loops over the codes op by op.
    @tf.function(autograph=False, reduce_retracing=True)
    def _draw(self, noise, temperatures):
        uniform = [tfp.distributions.Normal(0.0, 1.0).cdf(eps)[..., 0] for eps in noise]
        if not self.priors:
            num_codes = self.model_config.num_codes
            return self._decode_codes([tf.minimum(tf.cast(num_codes * u, tf.int32), num_codes - 1) for u in uniform])
        codes = []
        for prior, *arguments in zip(self.priors, uniform, temperatures, strict=True):
            codes.append(prior.sample(arguments[0], codes[-1] if codes else None, arguments[1]))
        return self._decode_codes(codes)

    def _decode(self, latents):
        return self._decode_codes([tf.cast(latent[..., 0], tf.int32) for latent in latents])

    def _decode_codes(self, codes):
        quantizers = self.autoencoder.quantizers
        return self._pixels([quantizer.lookup(one) for quantizer, one in zip(quantizers, codes, strict=True)])

    def likelihood(self, params):
        """Distribution p(x | z) of images; see `ImageModel.likelihood`."""
        config = self.model_config
        if config.likelihood == "normal":
            return NormalLikelihood(params, padding=config.padding, scale=config.sigma)
        return super().likelihood(params)

    def scalars(self):
        """Codes in use and perplexity of each level, as running averages over the last hundred steps or so."""
        values = {}
        for quantizer in self.autoencoder.quantizers:
            values[f"codes_in_use/{quantizer.name}"], values[f"perplexity/{quantizer.name}"] = quantizer.codes_in_use()
        return values
