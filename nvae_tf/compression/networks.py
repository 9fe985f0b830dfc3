"""The networks of an NVAE, one group at a time, as compression and decompression both run them.

Both directions must compute the same bits. Every network is therefore one traced function that always sees the same
batch shape, and what one direction feeds it is what the other direction feeds it.
"""

import functools

import numpy as np
import tensorflow as tf

from nvae_tf.compression.levels import image_shape, num_levels
from nvae_tf.layers.replicas import pad_rows
from nvae_tf.models.noise import keyed_noise, row_keys


class CodingNetworks:
    """Distributions of latents and pixels, with the latents on a grid.

    A latent is z = loc + scale * symbol / steps, where loc and scale are those of its prior, and symbol is an integer.
    Latent channels that carry no information are drawn from the prior instead, by noise that depends only on the
    number of the image.

    Args:
        model: `InferenceModel` that `check_supported` accepts.
        settings: `Settings`.

    Attributes:
        settings: the argument.
        num_groups: number of groups.
        image_shape: (h, w, C) of an image, without padding.
    """

    def __init__(self, model, settings):
        self._model, self.settings, self._config = model, settings, model.model_config
        self._batch_size, self.num_groups = settings.batch_size, len(model.groups)
        self.image_shape = image_shape(self._config)
        self._active = [np.array(channels, np.int32) for channels in settings.active]
        self._shapes = [shape[1:] for shape in model.noise_shapes(1)]
        self._encode = _traced(self._features)
        self._noise = _traced(self._keyed_noise)
        groups = range(self.num_groups)
        self._prior = [_traced(functools.partial(self._prior_of, group)) for group in groups]
        self._posterior = [_traced(functools.partial(self._posterior_of, group)) for group in groups]
        self._params = _traced(self._likelihood_params)
        channels = range(self._config.image_channels)
        self._pixels = [_traced(functools.partial(self._probabilities_of, channel)) for channel in channels]

    def num_symbols(self, group):
        """Number of the coded latents of a group in one image."""
        height, width, _ = self._shapes[group]
        return height * width * len(self._active[group])

    def start(self, first, count):
        """`Descent` of the images with the numbers first, ..., first + count - 1."""
        numbers = pad_rows(np.arange(first, first + count, dtype=np.int64), self._batch_size)
        return Descent(self, count, self._noise(tf.constant(numbers)))

    def encode(self, levels):
        """The encoder's features for the posterior of each group, from levels, uint8 [at most B, h, w, C]."""
        return self._encode(self.padded(levels))

    def padded(self, levels):
        """Levels as a tensor, uint8 [B, h, w, C]."""
        return tf.constant(pad_rows(levels, self._batch_size))

    def _features(self, levels):
        return self._model.encode(to_images(levels, self._config))

    def _keyed_noise(self, numbers):
        return keyed_noise(self._model.noise_shapes(self._batch_size), row_keys(0, numbers))

    def _latent(self, group, normal, symbols, noise):
        """z [B, h, w, latent_channels] of a group."""
        loc, scale = normal
        height, width, channels = self._shapes[group]
        active = self._active[group]
        on_grid = tf.reshape(tf.cast(symbols, tf.float32) / self.settings.steps, [-1, height, width, len(active)])
        # Column `len(active) + c` of both is the noise of channel c.
        place = np.arange(channels) + len(active)
        place[active] = np.arange(len(active))
        return loc + scale * tf.gather(tf.concat([on_grid, noise], axis=-1), place, axis=-1)

    def _prior_of(self, group, before):
        """(state, prior's parameters, its loc and scale) of a group; `before` are state and z's parts of the last."""
        state = None
        if group:
            state, *latent = before
            state = self._model.groups[group - 1].next_state(state, self._latent(group - 1, *latent))
        state, parameters = self._model.groups[group].prior(state)
        normal = self._model.groups[group].prior_normal(parameters)
        shape = [self._batch_size, *self._shapes[group]]
        parameters, normal = (tuple(tf.broadcast_to(part, shape) for part in pair) for pair in (parameters, normal))
        return state, parameters, normal

    def _posterior_of(self, group, state, parameters, normal, feature):
        """Mean and standard deviation of the posterior in steps of the grid, [B, number of symbols] each."""
        loc, scale = self._model.groups[group].posterior_normal(state, parameters, feature)
        prior_loc, prior_scale = normal
        unit = self.settings.steps / prior_scale
        return tuple(
            tf.reshape(tf.gather(part, self._active[group], axis=-1), [self._batch_size, -1])
            for part in ((loc - prior_loc) * unit, scale * unit)
        )

    def _likelihood_params(self, before):
        state, *latent = before
        state = self._model.groups[-1].next_state(state, self._latent(self.num_groups - 1, *latent))
        return self._model.finish(state)

    def _probabilities_of(self, channel, params, levels):
        return self._model.likelihood(params).level_probabilities(channel, to_images(levels, self._config))


class Descent:
    """One pass from group 0 to the pixels, for a batch of images.

    Call `prior` for the groups in order and give each its symbols with `take`, then `pixels` for the channels in order.
    `posterior` may be called for any group that `prior` was called for.

    Args:
        networks: `CodingNetworks`.
        count: number of images, of which the networks' batch may have more.
        noise: noise of all latents, a list of tensors [B, h, w, latent_channels].
    """

    def __init__(self, networks, count, noise):
        self._networks, self.count, self._noise = networks, count, noise
        self._groups, self._before, self._params = [], None, None

    def prior(self):
        """Computes the prior of the next group."""
        self._groups.append(self._networks._prior[len(self._groups)](self._before))

    def posterior(self, group, features):
        """Mean and standard deviation of a group's posterior in steps of the grid, float64 [count * symbols] each.

        Raises:
            ValueError: they are not finite.
        """
        mean, std = self._networks._posterior[group](*self._groups[group], features[group])
        mean, std = (part.numpy()[: self.count].astype(np.float64).ravel() for part in (mean, std))
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0.0).all()):
            raise ValueError("expected finite posteriors. Received: a model that computes NaN or infinity")
        return mean, std

    def take(self, symbols):
        """Sets the symbols of the group whose prior was computed last, int [count * symbols]."""
        state, _, normal = self._groups[-1]
        rows = pad_rows(symbols.reshape(self.count, -1).astype(np.int32), self._networks.settings.batch_size)
        self._before = (state, normal, tf.constant(rows), self._noise[len(self._groups) - 1])

    def pixels(self, channel, levels):
        """Probabilities of the levels of a channel, float32 [count * h * w, L].

        Args:
            channel: number of the channel.
            levels: uint8 [count, h, w, C], of which only the channels before this one are used.
        """
        if self._params is None:
            self._params = self._networks._params(self._before)
        # Other channels are set to 0, so that both directions compute with the same numbers.
        known = np.where(np.arange(levels.shape[-1]) < channel, levels, np.uint8(0))
        found = self._networks._pixels[channel](self._params, self._networks.padded(known)).numpy()[: self.count]
        if not np.isfinite(found).all():
            raise ValueError("expected finite probabilities. Received: a model that computes NaN or infinity")
        return found.reshape(-1, found.shape[-1])


def to_images(levels, config):
    """Images as the model sees them, float32 [B, H, W, C] in [0, 1], from levels, uint8 [B, h, w, C]."""
    images = tf.cast(levels, tf.float32) / (num_levels(config) - 1.0)
    padding = [(0, 0), (config.padding,) * 2, (config.padding,) * 2, (0, 0)]
    return tf.pad(images, padding) if config.padding else images


def _traced(function):
    return tf.function(function, autograph=False)
