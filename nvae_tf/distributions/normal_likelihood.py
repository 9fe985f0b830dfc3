"""Normal likelihood of images."""

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.normal import latent_normal

tfd = tfp.distributions


class NormalLikelihood(tfd.Distribution):
    """Independent Normal of every image value, with the clamped parameters of the latents' Normal.

    Events are images [H, W, C] in [0, 1]. `log_prob` is the density, in nats, of the images mapped to [-1, 1]; it is
    not a probability of 8-bit values, so it cannot be compared to that of the other likelihoods. `mean` and samples
    are mapped to [0, 1] and clipped.

    Args:
        parameters: tensor, [B, H, W, 2 * C]: C locations, then C log scales, before the clamp; cast to float32.
        padding: pixels on every side that were added to the data and do not count in `log_prob`. Default 0.
        name: of the distribution's operations. Default `"NormalLikelihood"`.

    Raises:
        ValueError: the number of parameters is odd.
    """

    def __init__(self, parameters, padding=0, name="NormalLikelihood"):
        arguments = dict(locals())
        if parameters.shape[-1] % 2:
            raise ValueError(f"parameters: expected an even last axis, 2 * C. Received: shape {parameters.shape}")
        self._normal = latent_normal(*tf.split(parameters, 2, axis=-1))
        self._window = (..., slice(padding, -padding or None), slice(padding, -padding or None), slice(None))
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=arguments,
            name=name,
        )

    # TFP would infer the batch shape from an argument, but not from one of the name of its own `parameters`.
    def _batch_shape(self):
        return self._normal.loc.shape[:-3]

    def _batch_shape_tensor(self):
        return tf.shape(self._normal.loc)[:-3]

    def _event_shape(self):
        return self._normal.loc.shape[-3:]

    def _event_shape_tensor(self):
        return tf.shape(self._normal.loc)[-3:]

    def _log_prob(self, images):
        log_densities = self._normal.log_prob(2.0 * tf.cast(images, tf.float32) - 1.0)
        return tf.reduce_sum(log_densities[self._window], axis=[-3, -2, -1])

    def _mean(self):
        return _to_unit_interval(self._normal.loc)

    def _sample_n(self, n, seed=None):
        # TFP turns ints into stateless seeds; it would refuse an int64 tensor, which the stateless ops take.
        seed = seed if tf.is_tensor(seed) else tfp.random.sanitize_seed(seed)
        loc, scale = self._normal.loc, self._normal.scale
        noise = tf.random.stateless_normal(tf.concat([[n], tf.shape(loc)], axis=0), seed)
        return _to_unit_interval(loc + scale * noise)


def _to_unit_interval(value):
    return tf.clip_by_value((value + 1.0) / 2.0, 0.0, 1.0)
