"""Configurations: JSON, unknown fields, wrong types, and errors that name the field and the value."""

import dataclasses
import json

import pytest

from nvae_tf.config import (
    MODEL_CONFIGS,
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    load_config,
    model_config_from_dict,
)

NAN = float("nan")
INFINITY = float("inf")

# (part, field, a value that cannot work); every field that `validate` looks at is here.
INVALID = [
    *[("model", name, -1) for name in ("padding", "preprocess_blocks", "postprocess_blocks", "num_flows")],
    *[("model", name, -1) for name in ("encoder_cells_per_group", "decoder_cells_per_group")],
    *[("model", name, 0) for name in ("image_height", "image_width", "image_channels", "num_mixtures", "num_scales")],
    *[("model", name, 0) for name in ("groups_per_scale", "min_groups_per_scale", "latent_channels")],
    *[("model", name, 0) for name in ("preprocess_cells", "postprocess_cells")],
    *[("model", name, 0) for name in ("encoder_channels", "decoder_channels")],
    ("model", "bit_depth", 0),
    ("model", "bit_depth", 9),
    ("model", "likelihood", "gaussian"),
    ("model", "cell_set", "res_mbconv9"),
    ("model", "postprocess_blocks", 1),
    ("model", "image_height", 30),
    ("model", "image_width", 28),
    ("model", "padding", 16),
    ("data", "validation_images", -1),
    *[("train", name, 0) for name in ("batch_size", "epochs", "log_steps", "checkpoint_epochs", "keep_checkpoints")],
    *[("train", name, -1) for name in ("max_steps", "image_epochs", "eval_epochs", "eval_images", "seed")],
    ("train", "warmup_epochs", -0.5),
    ("train", "convolution_dtype", "float16"),
    *[("train", name, value) for name in ("learning_rate", "kl_anneal_fraction") for value in (0.0, NAN, INFINITY)],
    *[("train", name, value) for name in ("min_learning_rate", "weight_decay") for value in (-0.1, NAN, INFINITY)],
    *[("train", name, value) for name in ("regularization", "initial_regularization") for value in (-0.1, NAN)],
    *[("train", name, value) for name in ("kl_constant_fraction", "kl_min_weight") for value in (-0.1, INFINITY)],
]


@pytest.mark.parametrize("part, field, value", INVALID)
def test_an_invalid_value_is_refused_by_name(part, field, value):
    config = Config()
    setattr(getattr(config, part), field, value)
    with pytest.raises(ConfigError) as error:
        config.validate()
    # Too much padding leaves no image: the error names the size, and the padding in what was expected.
    named = "model.image_height" if (field, value) == ("padding", 16) else f"{part}.{field}"
    shown = 32 if (field, value) == ("padding", 16) else value
    assert str(error.value).startswith(f"{named}: expected ")
    assert str(error.value).endswith(f"Received: {shown!r}")


def test_an_ill_fitting_size_names_sizes_that_fit():
    with pytest.raises(ConfigError, match="multiple of 8 .* 24 or 32 would fit"):
        ModelConfig(image_height=30).validate()
    with pytest.raises(ConfigError, match="; 8 would fit"):
        ModelConfig(image_height=5).validate()


@pytest.mark.parametrize("field", ["encoder_channels", "decoder_channels"])
def test_grouped_cells_need_divisible_widths(field):
    ModelConfig(cell_set="mbconv_den", **{field: 24}).validate()
    with pytest.raises(ConfigError, match=rf"^model\.{field}: .*multiple of 8.* Received: 30$"):
        ModelConfig(cell_set="mbconv_den", **{field: 30}).validate()


def test_defaults_are_valid_and_validate_returns_the_config():
    config = Config()
    assert config.validate() is config
    assert config.model.validate() is config.model


def test_round_trip_through_json(tmp_path):
    config = Config(
        model=ModelConfig(image_channels=3, likelihood="logistic_mixture", num_flows=2, squeeze_excite=False),
        data=DataConfig(dataset="cifar10", horizontal_flip=True, validation_images=10),
        train=TrainConfig(learning_rate=8e-3, warmup_epochs=0.5, seed=3, convolution_dtype="bfloat16"),
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_to_dict(config)))
    assert load_config(path) == config
    assert set(json.loads(path.read_text())) == {"model", "data", "train"}


def test_absent_parts_and_fields_take_their_defaults():
    assert config_from_dict({}) == Config()
    assert config_from_dict({"train": {"epochs": 3}}).train == TrainConfig(epochs=3)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"modle": {}}, r"^config: .*'model'.* Received: \['modle'\]$"),
        ({"model": {"chanels": 3}}, r"^model: .*'encoder_channels'.* Received: \['chanels'\]$"),
        ({"data": {"set": "mnist"}}, r"^data: .*'dataset'.* Received: \['set'\]$"),
        ({"train": {"lr": 1.0}}, r"^train: .*'learning_rate'.* Received: \['lr'\]$"),
        ({"model": {"family": "vae"}}, r"^model\.family: expected one of \('nvae', .* Received: 'vae'$"),
        ({"model": {"family": ["nvae"]}}, r"^model\.family: expected one of \('nvae', .* Received: \['nvae'\]$"),
        ({"train": 3}, r"^config\.train: expected an object\. Received: 3$"),
        ([], r"^config: expected an object.* Received: \[\]$"),
    ],
)
def test_unknown_names_and_shapes_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(values)


def _wrong_values(wanted):
    return {int: ["8", 8.0, True, None], float: ["1e-2", False, None], bool: [1, "true"], str: [3, None]}[wanted]


@pytest.mark.parametrize(
    "part, field, value",
    [
        (part, field.name, value)
        for part, cls in (("model", ModelConfig), ("data", DataConfig), ("train", TrainConfig))
        for field in dataclasses.fields(cls)
        for value in _wrong_values(field.type)
    ],
)
def test_wrong_types_are_refused_by_name(part, field, value):
    with pytest.raises(ConfigError, match=rf"^{part}\.{field}: expected (int|float|bool|str)\. Received: "):
        config_from_dict({part: {field: value}})


def test_an_int_passes_for_a_float():
    assert config_from_dict({"train": {"warmup_epochs": 5}}).train.warmup_epochs == 5.0


def test_values_read_from_a_dict_are_validated():
    with pytest.raises(ConfigError, match=r"^train\.epochs: .* Received: 0$"):
        config_from_dict({"train": {"epochs": 0}})
    with pytest.raises(ConfigError, match=r"^model\.num_scales: .* Received: 0$"):
        model_config_from_dict({"num_scales": 0})
    assert model_config_from_dict({"num_scales": 1}) == ModelConfig(num_scales=1)


def test_the_family_of_a_configuration_without_one_is_nvae():
    assert "family" not in config_to_dict(ModelConfig()) and ModelConfig().family == "nvae"
    assert model_config_from_dict({"family": "nvae", "num_scales": 1}) == ModelConfig(num_scales=1)


@pytest.mark.parametrize("family", MODEL_CONFIGS)
def test_a_configuration_of_every_family_survives_json_and_refuses_what_is_for_others(family):
    config = Config(model=MODEL_CONFIGS[family]()).validate()
    assert config.model.family == family
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"^model: expected only .* Received: \['depth'\]$"):
        model_config_from_dict({"family": family, "depth": 3})
    for field, value in (("remat", "cells"), ("convolution_dtype", "bfloat16")):
        train = TrainConfig(**{field: value})
        if family == "nvae":
            Config(config.model, train=train).validate()
            continue
        with pytest.raises(
            ConfigError, match=rf"^train\.{field}: .* with model.family '{family}'. Received: '{value}'$"
        ):
            Config(config.model, train=train).validate()


def test_a_file_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{model")
    with pytest.raises(ConfigError, match=r"config\.json: expected JSON\. Received: "):
        load_config(path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"precision": "float16"}, "train.precision: expected one of .*mixed_float16"),
        (
            {"precision": "mixed_float16", "convolution_dtype": "bfloat16"},
            "convolution_dtype: expected 'float32'",
        ),
        ({"batch_size": 10, "micro_batches": 3}, "train.micro_batches: expected a divisor of batch_size = 10"),
        ({"micro_batches": 0}, "train.micro_batches: expected at least 1"),
        ({"optimizer": "sgd"}, "train.optimizer: expected one of .*adamax_uncorrected"),
        ({"schedule": "linear"}, "train.schedule: expected one of .*exponential"),
        ({"learning_rate_decay": 1.5}, "train.learning_rate_decay: expected above 0 and at most 1. Received: 1.5"),
        ({"epsilon": 0.0}, "train.epsilon: expected a positive number"),
        ({"remat": "all"}, "train.remat: expected one of"),
        ({"stability": "none"}, "train.stability: expected one of"),
        ({"ema_decay": 1.0}, "train.ema_decay: expected at least 0 and below 1. Received: 1.0"),
        ({"recovery_learning_rate": 1.0}, "train.recovery_learning_rate: expected at least 0 and below 1"),
        ({"skip_factor": -1.0}, "train.skip_factor: expected zero or a positive number"),
        ({"clip_norm": float("nan")}, "train.clip_norm: expected zero or a positive number"),
        ({"learning_rate_rule": "linear"}, "train.reference_batch_size: expected at least 1"),
        ({"max_nonfinite_steps": 0}, "train.max_nonfinite_steps: expected at least 1"),
    ],
)
def test_training_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields).validate()
