"""Numbers that the common PyTorch program of VQ-VAE-2 computed, and their comparison with ours.

A file (.npz, channels last) is of one of these kinds, which its keys tell, and its shapes give the sizes:

- the autoencoder: weights `param/`, codebooks `ema/`, and `in/images` in [-1, 1];
- a prior: weights `param/`, `in/codes` and, for the bottom level, `in/condition`;
- a quantiser: its state `start/`, and `in/vectors` and `in/upstream` of each of some passes;
- the ELBO of `in/images` with the scale `in/sigma`, for the weights of an autoencoder and two priors in other files.

What was computed is in `out/`, `grad/` (of `out/loss`), `ema_after/` (after one training pass), `step{s}/` (of a pass
of the quantiser) and `traj/` (some steps of Adam).
"""

import math
import re
import types

import numpy as np
import tensorflow as tf

from nvae_tf.baselines.code_priors import CodePriors
from nvae_tf.baselines.pixel_snail import PixelSnail
from nvae_tf.baselines.quantizer import Quantizer
from nvae_tf.baselines.vqvae2 import VQVAE2
from nvae_tf.comparison import compare, incomparable, largest
from nvae_tf.config import TrainConfig
from nvae_tf.config.vqvae2 import VQVAE2Config
from nvae_tf.models.output import ModelOutput
from nvae_tf.training.step import TrainingStep

_INPUTS = re.compile(r"(param|ema|start|in)/.+|traj/learning_rate")
# By the pattern of a key. Codes that differ at all differ by more.
_TOLERANCES = {r"grad/.*|step\d+/grad_.*|traj/losses": 1e-4, r"traj/final/.*": 1e-3, r".*": 1e-5}
# Largest error of an array without larger values than the second number.
_ABSOLUTE, _TINY = 1e-7, 1e-6
_EPSILON = 1e-8  # of Adam
_GREEDY = 1e-6  # temperature at which the most likely code is drawn
# A Normal with this scale has the density exp(-pi x^2): no factor whose logarithm would cost the loss its digits.
_SIGMA = 1.0 / math.sqrt(2.0 * math.pi)


def compare_numbers(expected, *weights):
    """Yields the `Comparison` of each number of a file; unknown keys fail.

    Args:
        expected: {key: array} of the file.
        *weights: such dicts of the files with the weights: one of an autoencoder and two of priors, in any order, if
            `expected` is an ELBO; else none.

    Raises:
        ValueError: the file is of no kind, `weights` are not those that it needs, or inputs or weights are missing or
            do not fit together.
    """
    try:
        numbers = dict(_numbers(expected, weights))
    except KeyError as error:
        raise ValueError(f"--expected or --weights: expected the key {error}. Received: a file without it") from None
    for key, like in expected.items():
        if _INPUTS.fullmatch(key):
            continue
        tolerance = next(value for pattern, value in _TOLERANCES.items() if re.fullmatch(pattern, key))
        parent = key.partition("/")[0]
        family = None if parent in ("out", "traj") else f"{parent}/"
        if key not in numbers:
            yield incomparable(key, "unknown key", tolerance, family)
            continue
        scale = _ABSOLUTE / tolerance if largest(like) < _TINY else None
        yield compare(key, numbers[key], like, tolerance, scale, family)


def _numbers(expected, weights):
    """Pairs of a key and our array, for everything that a file of its kind may hold."""
    is_elbo = "in/sigma" in expected
    if weights and not is_elbo:
        raise ValueError(f"--weights: expected none, because --expected holds them. Received: {len(weights)}")
    if is_elbo:
        return _elbo(expected, weights)
    for key, function in (
        ("start/codebook", _quantizer),
        ("param/above/v", _prior),
        ("param/encoder_bottom/down1/kernel", _autoencoder),
    ):
        if key in expected:
            return function(expected)
    raise ValueError(
        f"--expected: expected an autoencoder, a prior, a quantiser or an ELBO. Received: {list(expected)}"
    )


def _load(layer, expected, *parts):
    """Sets a layer's variables to the arrays `PART/name` of a file, of exactly the same names; {name: variable}."""
    variables = {variable.path.partition(f"{layer.name}/")[2]: variable for variable in layer.variables}
    arrays = {key.partition("/")[2]: value for key, value in expected.items() if key.partition("/")[0] in parts}
    if differing := set(arrays) ^ set(variables):
        raise ValueError(
            f"{'/, '.join(parts)}/: expected the weights of the model. Received others: {sorted(differing)}"
        )
    for name, variable in variables.items():
        if arrays[name].shape != variable.shape:
            raise ValueError(f"{name}: expected shape {variable.shape}. Received: {arrays[name].shape}")
        variable.assign(arrays[name])
    return variables


def _count(expected, pattern):
    """1 + the largest number that the group of the pattern takes in the keys; 0 if no key matches."""
    found = (re.match(pattern, key) for key in expected)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _trained(model, inputs, expected, variables, factor=1.0, constant=0.0):
    """Gradients, statistics and steps of `TrainingStep`, whose loss is `factor` times that of the file plus `constant`.

    `variables` are {name: variable} of the model.
    """
    config = TrainConfig(optimizer="adam", epsilon=factor * _EPSILON, weight_decay=0.0)
    step = TrainingStep(model, config.resolved())
    names = {id(variable): name for name, variable in variables.items()}
    noise = [tf.zeros(shape) for shape in model.noise_shapes(len(inputs))]
    _, gradients, statistics = tf.function(lambda: step.gradients(inputs, noise, 1.0, None), autograph=False)()
    for variable, value in step.parameters.rows(gradients):
        yield f"grad/{names[id(variable)]}", value / factor
    for variable, (_, value) in zip(model.statistics, statistics, strict=True):
        yield f"ema_after/{names[id(variable)]}", value
    losses, rate = [], expected.get("traj/learning_rate")
    update = tf.function(lambda: step.update(inputs, noise, 1.0, None, rate), autograph=False)
    for _ in range(len(expected.get("traj/losses", ()))):
        report = update()
        losses.append((report["loss"] - constant) / factor)
    yield "traj/losses", losses
    yield from ((f"traj/final/{name}", variable.numpy()) for name, variable in variables.items())


class _SinglePrior(CodePriors):
    """A prior as a model of its codes [B, h w], given those of the map above."""

    def __init__(self, prior, shape, above):
        super().__init__(types.SimpleNamespace(model_config=VQVAE2Config(), name="single", priors=[prior]))
        self._shape, self._above = shape, above

    def call(self, images, noise=None, seed=None, training=False):
        nll = self.priors[0].nll(tf.reshape(images, self._shape), self._above)[:, tf.newaxis]
        return ModelOutput(images, nll, tf.zeros_like(nll[:, 0]), -nll[:, 0], nll[..., tf.newaxis], [])


def _make_prior(expected, name="prior"):
    """`PixelSnail` with the sizes of the weights in a file."""
    kernel_size, num_codes, channels = expected["param/above/v"].shape[1:]
    condition = expected.get("param/condition/conv/v")
    return PixelSnail(
        num_codes=num_codes,
        channels=channels,
        residual_channels=expected["param/block0/res0/conv1/v"].shape[-1],
        kernel_size=kernel_size,
        num_blocks=_count(expected, r"param/block(\d+)/"),
        num_residuals=_count(expected, r"param/block0/res(\d+)/"),
        attention="param/block0/query/v" in expected,
        condition_channels=0 if condition is None else condition.shape[-1],
        condition_blocks=_count(expected, r"param/condition/res(\d+)/"),
        output_blocks=_count(expected, r"param/head/res(\d+)/"),
        dropout_rate=0.0,
        name=name,
    )


def _prior(expected):
    prior, codes, condition = _make_prior(expected), expected["in/codes"], expected.get("in/condition")
    prior.build()
    variables = _load(prior, expected, "param")
    nll = prior.nll(codes, condition)
    yield "out/logits", prior(codes, condition)
    yield "out/nll_nats", nll
    yield "out/loss", tf.reduce_mean(nll) / codes[0].size
    first = None
    if condition is not None:
        yield "out/condition_features", prior.features(condition)
        first = condition[:1]
    if (greedy := expected.get("out/greedy_codes")) is not None:
        yield "out/greedy_codes", tf.function(prior.sample)(tf.fill(greedy.shape, 0.5), first, _GREEDY)
    single, rows = _SinglePrior(prior, codes.shape, condition), codes.reshape(len(codes), -1)
    yield from _trained(single, rows, expected, variables, factor=codes[0].size)


def _autoencoder_config(expected, images, sigma):
    """`VQVAE2Config` with the sizes of the weights in a file."""
    height, width, channels = images.shape[1:]
    num_codes, code_size = expected["ema/top/codebook"].shape
    return VQVAE2Config(
        image_height=height,
        image_width=width,
        image_channels=channels,
        likelihood="normal",
        sigma=sigma,
        bottom_stride=2 ** _count(expected, r"param/encoder_bottom/down(\d+)/") // 2,
        channels=expected["param/encoder_bottom/conv/kernel"].shape[-1],
        residual_channels=expected["param/encoder_bottom/res0/conv3/kernel"].shape[-1],
        residual_blocks=_count(expected, r"param/encoder_bottom/res(\d+)/"),
        code_size=code_size,
        num_codes=num_codes,
    )


def _autoencoder(expected):
    images = (expected["in/images"] + 1.0) / 2.0
    model = VQVAE2(_autoencoder_config(expected, images, _SIGMA), stage="autoencoder", name="vqvae2")
    variables = _load(model.autoencoder, expected, "param", "ema")
    autoencoder, joined = model.autoencoder, []
    levels = autoencoder.encode(expected["in/images"])
    for level, name in enumerate(("top", "bottom")):
        feature = autoencoder.features(expected["in/images"])[level]
        yield f"out/encoder_{name}", autoencoder.project(level, feature, joined)
        yield f"out/quantized_{name}", levels[level].vectors
        yield f"out/codes_{name}", levels[level].codes
        yield f"out/commitment_{name}", tf.reduce_mean(levels[level].commitment)
        joined.append(levels[level].vectors)
    output, factor = model(images), math.pi * images[0].size
    error = -model.likelihood(output.likelihood_params).log_prob(images) / factor
    commitment = model.weighted_kl(output, 0.0)[0] / factor
    yield "out/reconstruction", output.likelihood_params
    yield "out/mse", tf.reduce_mean(error)
    yield "out/loss", tf.reduce_mean(error + commitment)
    # Without priors all codes are equally likely, and their nats are constant.
    constant = float(output.kl_per_group[0, 0] + output.kl_per_group[0, 1])
    yield from _trained(model, images, expected, variables, factor, constant)


def _quantizer(expected):
    num_codes, size = expected["start/codebook"].shape
    quantizer = Quantizer(num_codes, name="quantizer")
    quantizer.build((None, None, None, size))
    for variable in quantizer.state:
        if f"start/{variable.name}" in expected:
            variable.assign(expected[f"start/{variable.name}"])
    decay, is_sonnet = quantizer.decay, any("/hidden_" in key for key in expected)
    for step, (vectors, upstream) in enumerate(zip(expected["in/vectors"], expected["in/upstream"], strict=True)):
        # Sonnet's sums begin at 0 and are divided by 1 - decay^t, which is a decay that grows from 0.
        weight = 1.0 - decay ** (step + 1)
        quantizer.decay = 1.0 - (1.0 - decay) / weight if is_sonnet else decay
        vectors = tf.constant(vectors)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            result = quantizer(vectors, training=True)
            commitment = tf.reduce_mean(result.commitment)
            target = tf.reduce_sum(result.vectors * upstream) + 2.0 * commitment
        yield f"step{step}/codes", result.codes
        yield f"step{step}/quantized", result.vectors
        yield f"step{step}/commitment", commitment
        yield f"step{step}/loss", 0.25 * commitment
        yield f"step{step}/grad_vectors", tape.gradient(target, vectors)
        for variable in quantizer.state:
            yield f"step{step}/{variable.name}", variable.numpy()
            yield f"step{step}/hidden_{variable.name}", weight * variable.numpy()


def _elbo(expected, weights):
    by_kind = {}
    for file in weights:
        is_prior = "param/above/v" in file
        kind = "autoencoder" if not is_prior else "bottom" if "param/condition/conv/v" in file else "top"
        by_kind[kind] = file
    if len(weights) != 3 or len(by_kind) != 3:
        raise ValueError(
            f"--weights: expected three files, of an autoencoder, its top and its bottom prior. Received: "
            f"{len(weights)}, of {sorted(by_kind)}"
        )

    class Joined(VQVAE2):
        def _make_prior(self, level, name):
            return _make_prior(by_kind["bottom" if level else "top"], name)

    images = (expected["in/images"] + 1.0) / 2.0
    config = _autoencoder_config(by_kind["autoencoder"], images, float(expected["in/sigma"]))
    model = Joined(config, name="vqvae2")
    _load(model.autoencoder, by_kind["autoencoder"], "param", "ema")
    for prior, kind in zip(model.priors, ("top", "bottom"), strict=True):
        _load(prior, by_kind[kind], "param")
    output = model(images)
    pixels = -model.likelihood(output.likelihood_params).log_prob(images)
    nelbo = pixels + tf.reduce_sum(output.kl_per_group, axis=1)
    yield "out/nll_top", output.kl_per_group[:, 0]
    yield "out/nll_bottom", output.kl_per_group[:, 1]
    yield (
        "out/squared_error",
        tf.reduce_sum(tf.square(output.likelihood_params - expected["in/images"]), axis=(1, 2, 3)),
    )
    yield "out/nll_pixels", pixels
    yield "out/nelbo", nelbo
    # A density of values in [-1, 1] times the width 1 / 127.5 of a level.
    size = images[0].size
    nats = np.asarray(nelbo, np.float64) + size * math.log(127.5)
    yield "out/nelbo_bits_per_dim_8bit", nats / (size * math.log(2.0))
