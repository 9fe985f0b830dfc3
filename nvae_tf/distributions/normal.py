"""The Normal distribution of the latents, with bounded parameters so that the KL of no group can explode."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

BOUND = 5.0
MIN_SCALE = 1e-2


def latent_normal(loc, log_scale, temperature=1.0):
    """Normal distribution of a prior, a posterior or the Normal likelihood, from the output of a convolution.

    Both parameters are softly clamped to (-5, 5) by `5 tanh(x / 5)`, and the scale is
    `(exp(log_scale) + 1e-2) * temperature`: parameters of zero give a scale of 1.01. The clamp and the minimum scale
    keep the KL finite early in training (see "taming the unbounded KL term", arXiv 2007.03898, section 3.2). All
    computation is in float32.

    Args:
        loc: tensor, [B, H, W, latent_channels], before the clamp.
        log_scale: tensor of the same shape, before the clamp; residual posterior parameters are also added before it.
        temperature: factor of the scale: a number, or a tensor that broadcasts to [B, 1, 1, 1]. Default 1.0.

    Returns:
        `tfd.Normal` with batch shape [B, H, W, latent_channels] and scalar events.
    """
    loc = _soft_clamp(tf.cast(loc, tf.float32))
    scale = tf.exp(_soft_clamp(tf.cast(log_scale, tf.float32))) + MIN_SCALE
    if not (isinstance(temperature, (int, float)) and temperature == 1.0):
        scale *= tf.cast(temperature, tf.float32)
    return tfd.Normal(loc, scale)


def _soft_clamp(value):
    return BOUND * tf.tanh(value / BOUND)
