"""The base class of the likelihoods of images."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class ImageLikelihood(tfd.Distribution):
    """Distribution p(x | z) of images [H, W, C] in [0, 1], from parameters [B, H, W, P].

    `log_prob` is in nats per image [B] and leaves the padding out; `mean()` and `sample(seed=seed)` are images. All
    computation is in float32.

    Args:
        params: tensor [B, H, W, P]; cast to float32.
        num_channels: C, channels of the images.
        padding: pixels on every side that were added to the data and do not count in `log_prob`.
        reparameterization_type: whether gradients flow through samples to the parameters. Default: they do not.
    """

    def __init__(self, params, num_channels, padding, reparameterization_type=tfd.NOT_REPARAMETERIZED):
        self._params = tf.cast(params, tf.float32)
        self._num_channels = num_channels
        self._window = (..., slice(padding, -padding or None), slice(padding, -padding or None), slice(None))
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
        )

    def _batch_shape(self):
        return self._params.shape[:-3]

    def _event_shape(self):
        return self._params.shape[-3:-1] + [self._num_channels]

    @staticmethod
    def _stateless_seed(seed):
        # TFP turns ints into stateless seeds but rejects int64 tensors, which the stateless ops accept.
        return seed if tf.is_tensor(seed) else tfp.random.sanitize_seed(seed)


def to_unit_interval(values):
    """Maps values in [-1, 1] to [0, 1] and clips those outside."""
    return (tf.clip_by_value(values, -1.0, 1.0) + 1.0) / 2.0
