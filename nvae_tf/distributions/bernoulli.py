"""Bernoulli likelihood of images, for MNIST and OMNIGLOT."""

import tensorflow as tf
import tensorflow_probability as tfp

from nvae_tf.distributions.likelihood import ImageLikelihood

tfd = tfp.distributions


class BernoulliLikelihood(ImageLikelihood):
    """Independent Bernoulli distribution of every image value (arXiv 2007.03898, appendix A).

    Samples are 0 or 1, in float32; `log_prob` also accepts values in between. `mean` is the sigmoid of the logits.

    Args:
        logits: tensor [B, H, W, C].
        padding: pixels on every side that do not count in `log_prob`. Default 0.

    Example:
        >>> likelihood = BernoulliLikelihood(tf.zeros([2, 32, 32, 1]), padding=2)
        >>> likelihood.log_prob(tf.ones([2, 32, 32, 1]))  # [-28 * 28 * ln 2] * 2
    """

    def __init__(self, logits, padding=0):
        super().__init__(logits, logits.shape[-1], padding)

    def _log_prob(self, images):
        images = tf.cast(images, tf.float32)[self._window]
        log_probs = tfd.Bernoulli(logits=self._params[self._window]).log_prob(images)
        return tf.reduce_sum(log_probs, axis=[-3, -2, -1])

    def level_probabilities(self, channel, images):
        """Probabilities of 0 and 1 for one channel, [B, h, w, 2] without padding; `images` is not used."""
        logits = self._params[self._window][..., channel]
        return tf.stack([tf.sigmoid(-logits), tf.sigmoid(logits)], axis=-1)

    def _mean(self):
        return tf.sigmoid(self._params)

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], tf.shape(self._params)], axis=0)
        uniform = tf.random.stateless_uniform(shape, self._stateless_seed(seed))
        return tf.cast(uniform < self._mean(), tf.float32)
