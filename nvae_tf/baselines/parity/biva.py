"""Numbers that the original BIVA computed, and their comparison with ours.

A file (.npz, channels last) holds the sizes `config` as JSON, images `x` (and `x_uint8` for colour), `noise/LATENT`,
weights `w/NAME`, and what the original computed from them: `out/` likelihood, KL and distributions, `grad/NAME` of the
objective, `iw/` the bound with several samples, `prior/` samples, `adamax/` six steps, and `init/NAME` the
data-dependent start of other weights. Latents are called top, bu1, td1, bu2..., as the stages are numbered.
"""

import json

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.biva import BIVA
from nvae_tf.comparison import compare, incomparable, largest
from nvae_tf.config import BIVAConfig, TrainConfig
from nvae_tf.layers.kernels import INITIALIZING_FROM_DATA, setting
from nvae_tf.training.step import TrainingStep

_TOLERANCE = 1e-5
# By the first parts of a key.
_TOLERANCES = {"out/kl": 3e-5, "grad": 1e-4, "init": 2e-4, "adamax/final": 1e-4}
# What the start makes of the last bit of the weights is noise, and rounding in each operation adds more of it.
_NOISE_FACTOR = 20.0
_INPUTS = ("config", "x", "x_uint8", "w", "noise", "iw/noise", "prior/noise", "prior/uniform_mixture")
_INPUTS += ("prior/uniform_logistic",)


def compare_numbers(expected):
    """Yields the `Comparison` of each number of a file; unknown keys fail.

    Args:
        expected: {key: array} of the file.

    Raises:
        ValueError: the sizes or inputs are missing or do not fit together.
    """
    try:
        ours = _Reproduction(expected)
        numbers = ours.numbers()
    except KeyError as error:
        raise ValueError(f"expected the key {error}. Received: {len(expected)} others") from None
    for key, like in expected.items():
        if _within(key, _INPUTS):
            continue
        tolerance = next((value for prefix, value in _TOLERANCES.items() if _within(key, (prefix,))), _TOLERANCE)
        parent = key.rpartition("/")[0]
        family = None if parent in ("out", "iw", "prior", "adamax") else f"{parent}/"
        if key in numbers:
            scale = max(largest(like), _NOISE_FACTOR * ours.noise.get(key, 0.0) / tolerance)
            yield compare(key, numbers[key], like, tolerance, scale, family)
        else:
            yield incomparable(key, "unknown key", tolerance, family)


def _within(key, prefixes):
    return any(key == prefix or key.startswith(f"{prefix}/") for prefix in prefixes)


class _Reproduction:
    """Our numbers for the inputs of a file.

    `noise` are the sizes of the rounding errors of those numbers that may have large ones: a bias that the start sets
    is the negative mean of a layer's response, which may be 0 but for rounding.
    """

    def __init__(self, expected):
        self._expected = expected
        self._sizes = json.loads(expected["config"].item())
        self._model = BIVA(_model_config(self._sizes), name="biva")
        self._variables = {_official_name(variable): variable for variable in self._model.trainable_variables}
        self._names = {id(variable): name for name, variable in self._variables.items()}
        below = range(len(self._model.stages) - 1, 0, -1)
        self._latents = ["top", *(f"{path}{number}" for number in below for path in ("td", "bu"))]
        self._images = expected["x"]
        if self._model.model_config.likelihood == "logistic_mixture":
            self._images = expected["x_uint8"] / np.float32(255)
        self._epsilon = self._noise_of("noise")
        self.noise = {}

    def _noise_of(self, prefix):
        return [self._expected[f"{prefix}/{latent}"] for latent in self._latents]

    def _assign(self, prefix, change=lambda value: value, suffix=""):
        """Gives the variables whose names end with `suffix` their values in the file, after a change."""
        for name, variable in self._variables.items():
            key = f"{prefix}/{name}"
            if name.endswith(suffix):
                value = self._expected[key]
                if value.shape != variable.shape:
                    raise ValueError(f"{key}: expected shape {variable.shape}. Received: {value.shape}")
                variable.assign(change(value))

    def numbers(self):
        """{key: our value} of everything that a file may hold under the prefixes of its keys."""
        prefixes = {key.partition("/")[0] for key in self._expected}
        numbers = self._start() if "init" in prefixes else {}
        self._assign("w")
        parts = {
            "out": self._forward,
            "iw": self._bound,
            "prior": self._samples,
            "grad": self._gradients,
            "adamax": self._trajectory,
        }
        for prefix, part in parts.items():  # the last changes the weights
            if prefix in prefixes:
                numbers |= dict(part())
        return numbers

    def _start(self):
        """The weights that the first batch sets, and the `noise` in them."""
        numbers = self._started(lambda v: v)
        moved = self._started(lambda v: np.nextafter(v, np.float32(np.inf)))
        self.noise = {key: largest(moved[key] - value) for key, value in numbers.items()}
        return numbers

    def _started(self, change):
        self._assign("init", change, suffix=".v")
        with setting(INITIALIZING_FROM_DATA, True):
            self._model(self._images, noise=self._epsilon, training=True)
        return {f"init/{name}": variable.numpy() for name, variable in self._variables.items()}

    def _elbo(self, images, noise):
        """Output for images, log p(x | z) [B], and the ELBO [B] without free bits."""
        output = self._model(images, noise=noise)
        log_px = self._model.likelihood(output.likelihood_params).log_prob(images)
        return output, log_px, log_px - tf.reduce_sum(output.kl_per_group, axis=1)

    def _forward(self):
        output, log_px, elbo = self._elbo(self._images, self._epsilon)
        yield "out/likelihood_params", output.likelihood_params
        for index, (latent, terms) in enumerate(zip(self._latents, output.groups, strict=True)):
            yield f"out/kl/{latent}", output.kl_per_group[:, index]
            yield f"out/z/{latent}", terms.latent
            for letter, normal in (("q", terms.posterior), ("p", terms.prior)):
                # The prior of the top latent is a single number.
                yield f"out/{letter}_mean/{latent}", tf.broadcast_to(normal.loc, terms.latent.shape)
                yield f"out/{letter}_std/{latent}", tf.broadcast_to(normal.scale, terms.latent.shape)
        yield "out/log_px", log_px
        yield "out/kl", tf.reduce_sum(output.kl_per_group, axis=1)
        yield "out/elbo", elbo
        yield "out/bits_per_dim", -elbo / (np.log(2.0) * self._images[0].size)
        yield "out/train_loss", tf.reduce_mean(self._model.weighted_kl(output, 1.0)[0] - log_px)

    def _bound(self):
        noise = self._noise_of("iw/noise")
        samples = len(noise[0])
        rows = [np.reshape(eps, (-1, *eps.shape[2:])) for eps in noise]
        images = np.tile(self._images, (samples, 1, 1, 1))
        elbo = tf.reshape(self._elbo(images, rows)[2], [samples, -1])
        yield "iw/elbo", elbo
        yield "iw/bound", tf.reduce_logsumexp(elbo, axis=0) - np.log(samples)

    def _samples(self):
        params = self._model.generate(self._noise_of("prior/noise"))
        likelihood = self._model.likelihood(params)
        yield "prior/likelihood_params", params
        if self._model.model_config.likelihood == "bernoulli":
            yield "prior/mean", likelihood.mean()
        else:
            uniforms = [self._expected[f"prior/uniform_{kind}"] for kind in ("mixture", "logistic")]
            yield "prior/sample", 2.0 * likelihood.from_uniforms(*uniforms) - 1.0

    def _training_step(self):
        return TrainingStep(self._model, TrainConfig(epsilon=self._sizes["adamax_eps"], weight_decay=0.0))

    def _gradients(self):
        step = self._training_step()
        _, stacks, _ = step.gradients(self._images, self._epsilon, tf.constant(1.0), None)
        for variable, row in step.parameters.rows(stacks):
            yield f"grad/{self._names[id(variable)]}", row

    def _trajectory(self):
        step, rate = self._training_step(), self._sizes["adamax_lr"]
        batch = (tf.constant(self._images), self._epsilon, tf.constant(1.0), None)
        # Steps this small take less time than the optimisation of their graph.
        yield "adamax/losses", [step.update(*batch, rate)["loss"] for _ in self._expected["adamax/losses"]]
        for name, variable in self._variables.items():
            yield f"adamax/final/{name}", variable.numpy()


def _official_name(variable):
    return ".".join(variable.path.split("/")[1:]).replace(".bias", ".b")


def _model_config(sizes):
    """`BIVAConfig` of the sizes of a file; ValueError if we cannot build its model."""
    stages, latents = sizes["stages"], sizes["latents"]
    widths = {filters for blocks in stages for filters, _, _ in blocks}
    early = {stride for blocks in stages for _, _, stride in blocks[:-1]}
    if len(widths) > 1 or early - {1} or sizes["dropout"] or sizes["log_var"] != "softplus":
        expected = "one width, strides at the ends of stages, no dropout and log_var softplus"
        raise ValueError(f"config: expected {expected}. Received: {sizes}")
    height, width, channels = sizes["image"]
    return BIVAConfig(
        image_height=height,
        image_width=width,
        image_channels=channels,
        likelihood=sizes["likelihood"],
        num_mixtures=sizes["nr_mix"] or 1,
        channels=widths.pop(),
        kernel_sizes=tuple(tuple(size for _, size, _ in blocks) for blocks in stages),
        downsampled_stages=tuple(number for number, blocks in enumerate(stages, 1) if blocks[-1][2] == 2),
        latent_sizes=tuple(size for size, _ in latents),
        head_kernel_sizes=tuple(0 if kernel == "dense" else kernel for _, kernel in latents),
        posterior_dropout=0.0,
        prior_dropout=0.0,
        free_bits=sizes["free_bits"],
    )
