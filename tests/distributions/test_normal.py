import numpy as np
import tensorflow as tf
from scipy import stats

from nvae_tf.distributions import latent_normal


def test_log_prob_agrees_with_scipy():
    rng = np.random.default_rng(0)
    loc, log_scale, value = rng.normal(scale=4.0, size=[3, 2, 3, 3, 4]).astype(np.float32)
    expected = stats.norm.logpdf(value, 5 * np.tanh(loc / 5), np.exp(5 * np.tanh(log_scale / 5)) + 0.01)
    np.testing.assert_allclose(latent_normal(loc, log_scale).log_prob(value), expected, rtol=1e-4, atol=1e-4)


def test_temperature_multiplies_the_whole_scale():
    zeros = tf.zeros([2, 3, 3, 4])
    np.testing.assert_allclose(latent_normal(zeros, zeros, 0.5).scale, np.full(zeros.shape, 0.505), rtol=1e-6)
    temperature = tf.reshape(tf.constant([0.5, 2.0]), [2, 1, 1, 1])
    scale = latent_normal(zeros, zeros, temperature).scale
    np.testing.assert_allclose(scale[:, 0, 0, 0], [0.505, 2.02], rtol=1e-6)


def test_half_precision_is_computed_in_float32():
    loc = tf.constant([[[[0.3, 300.0]]]], tf.float16)
    normal = latent_normal(loc, loc)
    assert normal.dtype == tf.float32
    expected = np.exp(5 * np.tanh(loc.numpy().astype(np.float64) / 5)) + 0.01
    np.testing.assert_allclose(normal.scale, expected, rtol=1e-5)


def test_kl_is_finite_at_extremes():
    far = tf.constant([[[[1e6]]]])
    kl = latent_normal(far, -far).kl_divergence(latent_normal(-far, -far))
    assert np.isfinite(kl.numpy()).all() and np.all(kl.numpy() > 1e4)
