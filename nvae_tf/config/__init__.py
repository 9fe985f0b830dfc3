"""Configuration of a run: model, data and training, as plain dataclasses.

The classes hold only numbers and words, and nothing here imports TensorFlow. `validate` raises before any long work
begins; its message gives the name of the field and the expected and received values.
"""

import dataclasses
import json

from nvae_tf.config.biva import BIVAConfig
from nvae_tf.config.data import DataConfig
from nvae_tf.config.iaf_vae import IAFVAEConfig
from nvae_tf.config.model import CELL_SETS, LIKELIHOODS, ModelConfig
from nvae_tf.config.train import CONVOLUTION_DTYPES, TrainConfig
from nvae_tf.config.validation import ConfigError, require_field
from nvae_tf.config.vqvae2 import VQVAE2Config

__all__ = [
    "BIVAConfig",
    "CELL_SETS",
    "CONVOLUTION_DTYPES",
    "LIKELIHOODS",
    "Config",
    "ConfigError",
    "DataConfig",
    "IAFVAEConfig",
    "ModelConfig",
    "MODEL_CONFIGS",
    "TrainConfig",
    "VQVAE2Config",
    "config_from_dict",
    "config_to_dict",
    "flat_dict",
    "load_config",
    "model_config_from_dict",
]


# The model configuration of each family; one without `model.family` is that of NVAE.
MODEL_CONFIGS = {"nvae": ModelConfig, "iaf_vae": IAFVAEConfig, "biva": BIVAConfig, "vqvae2": VQVAE2Config}


@dataclasses.dataclass(slots=True)
class Config:
    """Configuration of a whole run: `model`, one of the `MODEL_CONFIGS`, `data` and `train`."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def validate(self):
        """Raises `ConfigError` on the first invalid field; returns self."""
        for part in (self.model, self.data, self.train):
            part.validate()
        if not isinstance(self.model, ModelConfig):
            # Both concern NVAE's cells.
            for name, only in (("remat", "none"), ("convolution_dtype", "float32")):
                value, expected = getattr(self.train, name), f"{only!r} with model.family {self.model.family!r}"
                require_field(value == only, f"train.{name}", value, expected)
        stage, stages = self.train.stage, getattr(self.model, "stages", ("joint",))
        expected = f"one of {stages} with model.family {self.model.family!r}"
        require_field(stage in stages, "train.stage", stage, expected)
        if stage == "prior":
            flip = self.data.horizontal_flip
            require_field(not flip, "data.horizontal_flip", flip, "False with train.stage 'prior'")
        return self


def _tuples(value):
    """The value with its lists, which are JSON's tuples, turned into tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _part_from_dict(cls, values, prefix):
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    require_field(not unknown, prefix, unknown, f"only the fields {sorted(known)}")
    values = {name: _tuples(value) for name, value in values.items()}
    for name, value in values.items():
        wanted = known[name].type
        # An int is accepted for a float, because people write 5 for 5.0; a bool is not a number.
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        fits = fits and (wanted is bool or not isinstance(value, bool))
        require_field(fits, f"{prefix}.{name}", value, wanted.__name__)
    return cls(**values)


def config_to_dict(config):
    """Converts a `Config`, or one of its parts, to a nested plain dict."""
    return dataclasses.asdict(config)


def flat_dict(config):
    """Converts a `Config` to a flat dict, `{"train.batch_size": 32, ...}`."""
    return {f"{part}.{name}": v for part, values in config_to_dict(config).items() for name, v in values.items()}


def model_config_from_dict(values):
    """Makes a model configuration of the family `values["family"]`, or a `ModelConfig`, from a dict.

    Raises `ConfigError` on an unknown family, unknown fields and wrong types.
    """
    return _model_from_dict(values).validate()


def _model_from_dict(values):
    family = values.get("family", "nvae")
    known = tuple(MODEL_CONFIGS)
    require_field(family in known, "model.family", family, f"one of {known}")
    if family == "nvae":
        values = {name: value for name, value in values.items() if name != "family"}
    return _part_from_dict(MODEL_CONFIGS[family], values, "model")


def config_from_dict(values):
    """Makes a `Config` from a nested dict; raises `ConfigError` on unknown fields and wrong types."""
    require_field(isinstance(values, dict), "config", values, "an object with model, data and train")
    parts = {
        "model": _model_from_dict,
        "data": lambda values: _part_from_dict(DataConfig, values, "data"),
        "train": lambda values: _part_from_dict(TrainConfig, values, "train"),
    }
    unknown = sorted(set(values) - set(parts))
    require_field(not unknown, "config", unknown, f"only the parts {sorted(parts)}")
    for name, value in values.items():
        require_field(isinstance(value, dict), f"config.{name}", value, "an object")
    return Config(**{name: parts[name](value) for name, value in values.items()}).validate()


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
    if isinstance(values, dict) and isinstance(values.get("data"), dict):
        values["data"].setdefault("split_rule", "permutation")  # a run from before this field
    return config_from_dict(values)
