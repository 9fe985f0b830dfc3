"""Bernoulli likelihood of images, for MNIST and OMNIGLOT."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class BernoulliLikelihood(tfd.Distribution):
    """Independent Bernoulli of every image value (arXiv 2007.03898, appendix A).

    Events are images [H, W, C]. Samples are 0 or 1, in float32; `log_prob`, in nats, also takes values between.
    `mean` is the sigmoid of all logits; only `log_prob` leaves the padding out.

    Args:
        logits: tensor, [B, H, W, C]; cast to float32.
        padding: pixels on every side that were added to the data and do not count in `log_prob`. Default 0.
        name: of the distribution's operations. Default `"BernoulliLikelihood"`.

    Example:
        >>> likelihood = BernoulliLikelihood(tf.zeros([2, 32, 32, 1]), padding=2)
        >>> likelihood.log_prob(tf.ones([2, 32, 32, 1]))  # [-28 * 28 * ln 2] * 2
    """

    def __init__(self, logits, padding=0, name="BernoulliLikelihood"):
        arguments = dict(locals())
        self._logits = tf.cast(logits, tf.float32)
        self._window = (..., slice(padding, -padding or None), slice(padding, -padding or None), slice(None))
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=arguments,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"logits": tfp.util.ParameterProperties(event_ndims=3)}

    def _event_shape(self):
        return self._logits.shape[-3:]

    def _event_shape_tensor(self):
        return tf.shape(self._logits)[-3:]

    def _log_prob(self, images):
        images = tf.cast(images, tf.float32)[self._window]
        log_probs = tfd.Bernoulli(logits=self._logits[self._window]).log_prob(images)
        return tf.reduce_sum(log_probs, axis=[-3, -2, -1])

    def _mean(self):
        return tf.sigmoid(self._logits)

    def _sample_n(self, n, seed=None):
        # TFP turns ints into stateless seeds; it would refuse an int64 tensor, which the stateless ops take.
        seed = seed if tf.is_tensor(seed) else tfp.random.sanitize_seed(seed)
        uniform = tf.random.stateless_uniform(tf.concat([[n], tf.shape(self._logits)], axis=0), seed)
        return tf.cast(uniform < self._mean(), tf.float32)
