"""Numbers that the original IAF-VAE computed, and their comparison with ours.

A file (.npz, channels last) holds the sizes `config.*`, images, noise, the weights `weight.NAME`, and what the original
computed from them: every layer's outputs, distributions and KL, the likelihood and the objective, samples, gradients,
five steps of Adamax, and the data-dependent start of other weights, `init_*`. Every number must be there.
"""

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.iaf_layer import BRANCH_SCALE
from nvae_tf.baselines.iaf_vae import IAFVAE
from nvae_tf.comparison import compare, incomparable, largest
from nvae_tf.config import TrainConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting
from nvae_tf.objectives.kl import free_bits_kl
from nvae_tf.training.step import TrainingStep

_TOLERANCE = 1e-5
# Of gradients and of what steps make of them: those next to the likelihood are the difference of large terms.
_GRADIENT_TOLERANCE = 1e-4
# A gradient below this fraction of the largest is mostly rounding noise, and its steps may go in any direction.
_GRADIENT_FLOOR = 1e-6
_CONFIG = ("depth", "num_blocks", "h_size", "z_size", "image_size", "batch_size", "k", "kl_min", "iaf")
_WEIGHT_NAMES = {"v": "V", "bias": "b"}


def compare_numbers(expected):
    """Yields the `Comparison` of each number of a file; those that are unknown or missing fail.

    Args:
        expected: {key: array} of the file.

    Raises:
        ValueError: sizes, images, noise or weights are missing or do not fit together.
    """
    ours = _Reproduction(expected)
    numbers = ours.numbers()
    for key, (value, tolerance) in numbers.items():
        prefix, dot, _ = key.partition(".")
        family = prefix + dot if dot else None
        if key in expected:
            yield compare(key, value, expected[key], tolerance, family=family)
        else:
            yield incomparable(key, "missing from the file", tolerance, family)
    for key in sorted(set(expected) - set(numbers) - ours.used):
        yield incomparable(key, "unknown key")


class _Reproduction:
    """Our numbers for the inputs of a file; `used` are the keys of those inputs."""

    def __init__(self, expected):
        self._expected = expected
        self.used = set()
        sizes = {name: self._input(f"config.{name}").item() for name in _CONFIG}
        images = self._input("images")
        self._samples = sizes["k"]
        config = IAFVAEConfig(
            image_height=sizes["image_size"],
            image_width=sizes["image_size"],
            image_channels=images.shape[-1],
            num_levels=sizes["depth"],
            layers_per_level=sizes["num_blocks"],
            channels=sizes["h_size"],
            latent_channels=sizes["z_size"],
            iaf=bool(sizes["iaf"]),
            free_bits=sizes["kl_min"],
        )
        self._model = IAFVAE(config, name="iaf_vae")
        self._variables = {_official_name(variable): variable for variable in self._model.trainable_variables}
        self._names = {id(variable): name for name, variable in self._variables.items()}
        self._layers = self._model.latent_layers[::-1]  # generation order
        self._images = self._rows(images)
        self._noise = self._noise_of("noise")

    def _input(self, key):
        if key not in self._expected:
            raise ValueError(f"expected the key {key}. Received: {len(self._expected)} others")
        self.used.add(key)
        return self._expected[key]

    def _assign(self, name, key):
        """Gives the variable of an official name the value of a key."""
        variable, array = self._variables[name], self._input(key)
        if variable.shape != array.shape:
            raise ValueError(f"{key}: expected shape {tuple(variable.shape)}. Received: {array.shape}")
        variable.assign(array)

    def _rows(self, images):
        """Images in [0, 1], each as often as it has samples."""
        return np.repeat(images.astype(np.float32) / np.float32(255), self._samples, axis=0)

    def _noise_of(self, prefix):
        return [self._input(f"{prefix}.{layer.name}") for layer in self._layers]

    def numbers(self):
        """{key: (our value, tolerance)} of everything that a file holds."""
        start = dict(self._start())
        for name in self._variables:
            self._assign(name, f"weight.{name}")
        parts = (self._bottom_up(), self._top_down(), self._objective(), self._samples_of_prior())
        values = start | {key: value for part in parts for key, value in part}
        numbers = {key: (value, _TOLERANCE) for key, value in values.items()}
        numbers |= {key: (value, _GRADIENT_TOLERANCE) for key, value in self._gradients()}
        return numbers | dict(self._trajectory())

    def _start(self):
        """The weights that the first batch sets, and bits per dimension of this batch with them."""
        for name in self._variables:
            if not name.endswith((".g", ".b")):
                self._assign(name, f"init_weight.{name}")
        images, noise = self._rows(self._input("init_images")), self._noise_of("init_noise")
        with setting(INITIALIZING_FROM_DATA, True):
            self._model(images, noise=noise, training=True)
        for name, variable in self._variables.items():
            yield f"init_weight.{name}", variable.numpy()
        output = self._model(images, noise=noise)
        yield "init_bits_per_dim", self._bound(self._rounded_log_px(images, output), output)[1]

    def _bottom_up(self):
        state = self._model.x_enc((255.0 * self._images + 0.5) / 256.0 - 0.5)
        for layer in self._layers[::-1]:
            state, _ = layer.up(state)
            yield f"up_output.{layer.name}", state

    def _top_down(self):
        features = self._model.encode(self._images)
        state = self._model.top(len(self._images))
        for layer, feature, noise in zip(self._layers, features, self._noise, strict=True):
            state, terms = layer.infer(state, feature, noise)
            values = {
                "down_output": state,
                "prior_mean": terms.prior.loc,
                "prior_logvar": 2.0 * tf.math.log(terms.prior.scale),
                "posterior_mean": terms.posterior.loc,
                "posterior_logvar": 2.0 * tf.math.log(terms.posterior.scale),
                "z0": terms.sample,
                "z": terms.latent,
            }
            if layer.iaf is not None:
                values |= {"iaf_mean_raw": terms.shift / BRANCH_SCALE, "iaf_logsd_raw": terms.log_scale / BRANCH_SCALE}
            yield from ((f"{key}.{layer.name}", value) for key, value in values.items())

    def _objective(self):
        model, images = self._model, self._images
        output = model(images, noise=self._noise)
        likelihood = model.likelihood(output.likelihood_params)
        weighted_kl, _ = model.weighted_kl(output, 1.0)
        yield "reconstruction_mean", likelihood.mean() - 0.5
        for prefix, log_px in (
            ("", self._rounded_log_px(images, output)),
            ("float64.", likelihood.log_prob(images)),
        ):
            bound_sum, bits_per_dim = self._bound(log_px, output)
            yield f"{prefix}log_px", log_px
            yield f"{prefix}objective", tf.reduce_sum(weighted_kl - log_px)
            yield f"{prefix}bound_sum", bound_sum
            yield f"{prefix}bits_per_dim", bits_per_dim
        least, clamped = model.model_config.free_bits, output.kl_per_group
        if least:
            clamped = tf.broadcast_to(free_bits_kl(output.kl_per_channel, least)[0], clamped.shape)
        for index, layer in enumerate(self._layers):
            yield f"kl.{layer.name}", output.kl_per_group[:, index]
            yield f"kl_objective.{layer.name}", clamped[:, index]

    def _rounded_log_px(self, images, output):
        """log p(x | z) as the original rounds it, for its numbers in float32."""
        mean = self._model.likelihood(output.likelihood_params).mean() - 0.5
        return _rounded_log_px(images, mean, tf.convert_to_tensor(self._model.dec_log_stdv))

    def _bound(self, log_px, output):
        """Bound on -log p(x) with all samples of an image, nats, summed over the images; and its bits per dimension."""
        log_weights = tf.reshape(log_px - tf.reduce_sum(output.kl_per_group, axis=1), [-1, self._samples])
        bound = tf.reduce_sum(np.log(self._samples) - tf.reduce_logsumexp(log_weights, axis=1))
        dimensions = log_weights.shape[0] * self._images[0].size
        return bound, bound / (np.log(2.0) * dimensions)

    def _samples_of_prior(self):
        params = self._model.generate(self._noise_of("sample_noise"))
        yield "sample_mean", self._model.likelihood(params).mean() - 0.5

    def _gradients(self):
        step = TrainingStep(self._model, _train_config())
        _, stacks, _ = step.gradients(self._images, self._noise, tf.constant(1.0), None)
        for variable, row in step.parameters.rows(stacks):
            # The original's loss is a sum over the rows, ours their mean.
            yield f"gradient.{self._names[id(variable)]}", len(self._images) * row.numpy()

    def _trajectory(self):
        rate = float(self._input("trajectory_learning_rate"))
        step, rows = TrainingStep(self._model, _train_config()), len(self._images)
        run = tf.function(lambda: step.update(self._images, self._noise, tf.constant(1.0), None, rate)["loss"])
        losses, rounded = [], []
        for _ in range(5):
            output = self._model(self._images, noise=self._noise)
            log_px = self._model.likelihood(output.likelihood_params).log_prob(self._images)
            rounding = tf.reduce_sum(log_px - self._rounded_log_px(self._images, output))
            losses.append(rows * float(run()))
            rounded.append(losses[-1] + float(rounding))
        yield "trajectory_objective", (rounded, _TOLERANCE)
        yield "float64.trajectory_objective", (losses, _TOLERANCE)
        gradients = {name: self._expected.get(f"gradient.{name}", np.zeros(())) for name in self._variables}
        floor = _GRADIENT_FLOOR * max(map(largest, gradients.values()))
        for name, variable in self._variables.items():
            key, value, gradient = f"weight_after_5.{name}", variable.numpy(), gradients[name]
            like = self._expected.get(key, value)
            if gradient.any() and gradient.shape == like.shape == value.shape:
                value = np.where(np.abs(gradient) >= floor, value, like)
            yield key, (value, _GRADIENT_TOLERANCE)


# A function, because the rounding is that of the original only in a graph that TensorFlow has optimised.
@tf.function(autograph=False)
def _rounded_log_px(images, mean, log_scale):
    """The original's formula: a difference of sigmoids, which has few digits where both are near 1. Ours avoids it."""
    scale = tf.exp(log_scale)
    lower = (tf.round(255.0 * images) / 256.0 - 0.5 - mean) / scale
    mass = tf.sigmoid(lower + 1.0 / 256.0 / scale) - tf.sigmoid(lower)
    return tf.reduce_sum(tf.math.log(mass + 1e-7), axis=(1, 2, 3))


def _official_name(variable):
    *layers, name = variable.path.split("/")[1:]
    return ".".join([*layers, _WEIGHT_NAMES.get(name, name)])


def _train_config():
    return TrainConfig(optimizer="adamax_uncorrected", epsilon=1e-8, weight_decay=0.0)
