"""What configures a run: model, data and training, as plain dataclasses.

The classes hold numbers and words only; nothing here imports TensorFlow. `validate` raises before any
long work begins, with the field's name, the value received and what was expected.
"""

import dataclasses
import json
import math
import os

LIKELIHOODS = ("bernoulli", "logistic_mixture", "normal")
CELL_SETS = (
    "res_mbconv",
    "res_bnswish",
    "res_bnelu",
    "res_elu",
    "mbconv_sep",
    "mbconv_sep11",
    "mbconv_res",
    "mbconv_den",
    "res53_mbconv",
    "res35_mbconv",
    "res55_mbconv",
)
CONVOLUTION_DTYPES = ("float32", "bfloat16")


class ConfigError(ValueError):
    """A configuration that cannot work; the message names the field, the value and what was expected."""


def _require(condition, field, received, expected):
    if not condition:
        raise ConfigError(f"{field}: expected {expected}. Received: {received!r}")


def _require_at_least(config, prefix, least, *names):
    for name in names:
        value = getattr(config, name)
        _require(value >= least, f"{prefix}.{name}", value, f"at least {least}")


@dataclasses.dataclass(slots=True)
class ModelConfig:
    """The architecture (paper appendix A, table 6).

    Widths are given at full image resolution: they double at each downsampling and halve at each upsampling.

    Attributes:
        image_height, image_width: size of the images the model sees (padding included). Defaults 32.
        image_channels: 1 for grey, 3 for RGB; any number works. Default 1.
        likelihood: `"bernoulli"`, `"logistic_mixture"` or `"normal"`. Default `"bernoulli"`.
        padding: pixels on every side that were added to the data and do not count in the likelihood. Default 0.
        bit_depth: bits per image value. Default 8.
        num_mixtures: components of the logistic mixture. Default 10.
        num_scales: spatial scales that carry latents. Default 2.
        groups_per_scale: latent groups at the finest scale. Default 10.
        adaptive_groups: halve the number of groups from each scale to the next coarser one. Default False.
        min_groups_per_scale: least number of groups of a scale when `adaptive_groups`. Default 1.
        latent_channels: channels of one z. Default 20.
        encoder_channels, decoder_channels: widths of the towers. Defaults 32.
        preprocess_blocks, preprocess_cells: blocks before the encoder tower, and cells in each. Defaults 2, 3.
        postprocess_blocks, postprocess_cells: blocks after the decoder tower, and cells in each. Defaults 2, 3.
        encoder_cells_per_group, decoder_cells_per_group: cells before each combiner. Defaults 2.
        num_flows: flow steps of each posterior; 0 for none. Default 0.
        cell_set: which operations the cells are made of. Default `"res_mbconv"`.
        squeeze_excite: gate every cell by squeeze-and-excitation. Default True.
        residual_posterior: posterior parameters are relative to the prior's (paper section 3.2). Default True.
    """

    image_height: int = 32
    image_width: int = 32
    image_channels: int = 1
    likelihood: str = "bernoulli"
    padding: int = 0
    bit_depth: int = 8
    num_mixtures: int = 10
    num_scales: int = 2
    groups_per_scale: int = 10
    adaptive_groups: bool = False
    min_groups_per_scale: int = 1
    latent_channels: int = 20
    encoder_channels: int = 32
    decoder_channels: int = 32
    preprocess_blocks: int = 2
    preprocess_cells: int = 3
    postprocess_blocks: int = 2
    postprocess_cells: int = 3
    encoder_cells_per_group: int = 2
    decoder_cells_per_group: int = 2
    num_flows: int = 0
    cell_set: str = "res_mbconv"
    squeeze_excite: bool = True
    residual_posterior: bool = True

    @property
    def downsampling(self):
        """Factor from the image to the coarsest latents."""
        return 2 ** (self.preprocess_blocks + self.num_scales - 1)

    def validate(self):
        """Raises `ConfigError` if no model can be built from this configuration; returns self."""
        at_least = (
            (0, ("padding", "preprocess_blocks", "postprocess_blocks", "num_flows")),
            (0, ("encoder_cells_per_group", "decoder_cells_per_group")),
            (1, ("image_height", "image_width", "image_channels", "num_mixtures", "num_scales")),
            (1, ("groups_per_scale", "min_groups_per_scale", "latent_channels")),
            (1, ("preprocess_cells", "postprocess_cells", "encoder_channels", "decoder_channels")),
        )
        for least, names in at_least:
            _require_at_least(self, "model", least, *names)
        _require(1 <= self.bit_depth <= 8, "model.bit_depth", self.bit_depth, "1 to 8")
        _require(self.likelihood in LIKELIHOODS, "model.likelihood", self.likelihood, f"one of {LIKELIHOODS}")
        _require(self.cell_set in CELL_SETS, "model.cell_set", self.cell_set, f"one of {CELL_SETS}")
        _require(
            self.preprocess_blocks == self.postprocess_blocks,
            "model.postprocess_blocks",
            self.postprocess_blocks,
            f"preprocess_blocks = {self.preprocess_blocks}, so that the decoder ends at the image's resolution",
        )
        for name in ("image_height", "image_width"):
            self._validate_size(name)
        self._validate_widths()
        return self

    def _validate_size(self, name):
        size, factor = getattr(self, name), self.downsampling
        below, above = size // factor * factor, math.ceil(size / factor) * factor
        fits = f"{below} or {above}" if below else f"{above}"
        _require(
            size % factor == 0,
            f"model.{name}",
            size,
            f"a multiple of {factor} (2 ** (preprocess_blocks + num_scales - 1)); {fits} would fit",
        )
        _require(size > 2 * self.padding, f"model.{name}", size, f"more than twice the padding of {self.padding}")

    def _validate_widths(self):
        # Every upsampling halves the decoder's width; the last must leave at least one channel, with no remainder.
        # The start of the decoder has decoder_channels * downsampling, so this holds for every positive width.
        if self.cell_set == "mbconv_den":
            for name in ("encoder_channels", "decoder_channels"):
                width = getattr(self, name)
                _require(width % 8 == 0, f"model.{name}", width, "a multiple of 8 (mbconv_den uses 8 groups)")


@dataclasses.dataclass(slots=True)
class DataConfig:
    """Which images to train on and how they are prepared.

    Attributes:
        dataset: name of a data set in `nvae_tf.data.datasets`. Default `"digits"`.
        binarize: draw each pixel as a fresh Bernoulli (dynamic binarisation, paper appendix A). Default False.
        horizontal_flip: flip images left to right at random in training. Default False.
        validation_images: images held out from the end of the training split; 0 for none. Default 0.
    """

    dataset: str = "digits"
    binarize: bool = False
    horizontal_flip: bool = False
    validation_images: int = 0

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        _require_at_least(self, "data", 0, "validation_images")
        return self


@dataclasses.dataclass(slots=True)
class TrainConfig:
    """Optimisation and objective (paper appendix A).

    Attributes:
        batch_size: images per replica and step. Default 32.
        epochs: passes over the training split that the schedules are made for. Default 400.
        max_steps: stop after this many steps, the schedules unchanged; 0 for no limit. Default 0.
        learning_rate: peak learning rate of Adamax. Default 1e-2.
        min_learning_rate: where the cosine ends. Default 1e-4.
        warmup_epochs: epochs of linear warm-up from 0. Default 5.
        weight_decay: L2 decay added to the gradient of every parameter. Default 3e-4.
        kl_anneal_fraction: part of all steps over which the KL weight grows to 1. Default 0.3.
        kl_constant_fraction: part of all steps before the KL weight grows. Default 1e-4.
        kl_min_weight: least KL weight. Default 1e-4.
        regularization: lambda of the spectral and batch-norm terms. Default 1e-2.
        initial_regularization: where lambda starts when annealed with the KL weight; 0 keeps it constant. Default 0.
        convolution_dtype: type of the dense convolutions' arithmetic, `"float32"` or `"bfloat16"`; all else
            stays float32. Default `"float32"`.
        seed: of initialisation, data order, augmentation and noise. Default 0.
        log_steps: steps between two lines of the log and TensorBoard scalars. Default 100.
        image_epochs: epochs between two sets of TensorBoard images; 0 for none. Default 1.
        eval_epochs: epochs between two evaluations on the held-out images; 0 for none. Default 1.
        eval_images: most held-out images an evaluation in training looks at; 0 for all. Default 0.
        checkpoint_epochs: epochs between two checkpoints. Default 1.
        keep_checkpoints: how many of the last checkpoints are kept. Default 3.
    """

    batch_size: int = 32
    epochs: int = 400
    max_steps: int = 0
    learning_rate: float = 1e-2
    min_learning_rate: float = 1e-4
    warmup_epochs: float = 5.0
    weight_decay: float = 3e-4
    kl_anneal_fraction: float = 0.3
    kl_constant_fraction: float = 1e-4
    kl_min_weight: float = 1e-4
    regularization: float = 1e-2
    initial_regularization: float = 0.0
    convolution_dtype: str = "float32"
    seed: int = 0
    log_steps: int = 100
    image_epochs: int = 1
    eval_epochs: int = 1
    eval_images: int = 0
    checkpoint_epochs: int = 1
    keep_checkpoints: int = 3

    def validate(self):
        """Raises `ConfigError` on a field out of range; returns self."""
        _require_at_least(self, "train", 1, "batch_size", "epochs", "log_steps", "checkpoint_epochs")
        _require_at_least(self, "train", 1, "keep_checkpoints")
        _require_at_least(self, "train", 0, "max_steps", "warmup_epochs", "image_epochs", "eval_epochs")
        _require_at_least(self, "train", 0, "eval_images", "seed")
        for name in ("learning_rate", "kl_anneal_fraction"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, f"train.{name}", value, "a positive number")
        non_negative = ("min_learning_rate", "weight_decay", "regularization", "initial_regularization")
        for name in (*non_negative, "kl_constant_fraction", "kl_min_weight"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"train.{name}", value, "zero or a positive number")
        _require(
            self.convolution_dtype in CONVOLUTION_DTYPES,
            "train.convolution_dtype",
            self.convolution_dtype,
            f"one of {CONVOLUTION_DTYPES}",
        )
        return self


@dataclasses.dataclass(slots=True)
class Config:
    """A whole run: `model`, `data` and `train`."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def validate(self):
        """Raises `ConfigError` on the first field that cannot work; returns self."""
        for part in (self.model, self.data, self.train):
            part.validate()
        return self


def _part_from_dict(cls, values, prefix):
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    _require(not unknown, prefix, unknown, f"only the fields {sorted(known)}")
    for name, value in values.items():
        wanted = known[name].type
        # JSON writes 5.0 as 5.0, but people write 5: an int is a fine float, a bool is no number.
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        fits = fits and (wanted is bool or not isinstance(value, bool))
        _require(fits, f"{prefix}.{name}", value, wanted.__name__)
    return cls(**values)


def config_to_dict(config):
    """Nested plain dict of a `Config` (or of one of its parts)."""
    return dataclasses.asdict(config)


def model_config_from_dict(values):
    """`ModelConfig` from a dict; raises `ConfigError` on unknown fields and wrong types."""
    return _part_from_dict(ModelConfig, values, "model").validate()


def config_from_dict(values):
    """`Config` from a nested dict; raises `ConfigError` on unknown fields and wrong types."""
    _require(isinstance(values, dict), "config", values, "an object with model, data and train")
    parts = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig}
    unknown = sorted(set(values) - set(parts))
    _require(not unknown, "config", unknown, f"only the parts {sorted(parts)}")
    for name, value in values.items():
        _require(isinstance(value, dict), f"config.{name}", value, "an object")
    return Config(**{name: _part_from_dict(parts[name], value, name) for name, value in values.items()}).validate()


def save_config(config, path):
    """Writes a `Config` as JSON, to a temporary name first."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(config_to_dict(config), file, indent=2)
        file.write("\n")
    os.replace(temporary, path)


def load_config(path):
    """Reads a `Config` from JSON.

    Raises:
        ConfigError: the file is not JSON, or holds an unknown field or a wrong type.
        OSError: the file cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        try:
            values = json.load(file)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}: expected JSON. Received: {error}") from error
    return config_from_dict(values)
