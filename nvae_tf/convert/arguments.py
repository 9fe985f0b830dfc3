"""Makes a `Config` of the arguments of the authors' program that an official checkpoint holds."""

import dataclasses
import math
import re

from nvae_tf.config import CELL_SETS, Config, ConfigError, DataConfig, ModelConfig, TrainConfig
from nvae_tf.convert.torch_reader import ConversionError

_REQUIRED = object()

# Official argument: our field.
_MODEL_ARGUMENTS = {
    "arch_instance": "cell_set",
    "num_x_bits": "bit_depth",
    "num_mixture_dec": "num_mixtures",
    "num_latent_scales": "num_scales",
    "num_groups_per_scale": "groups_per_scale",
    "ada_groups": "adaptive_groups",
    "min_groups_per_scale": "min_groups_per_scale",
    "num_latent_per_group": "latent_channels",
    "num_channels_enc": "encoder_channels",
    "num_channels_dec": "decoder_channels",
    "num_preprocess_blocks": "preprocess_blocks",
    "num_preprocess_cells": "preprocess_cells",
    "num_postprocess_blocks": "postprocess_blocks",
    "num_postprocess_cells": "postprocess_cells",
    "num_cell_per_cond_enc": "encoder_cells_per_group",
    "num_cell_per_cond_dec": "decoder_cells_per_group",
    "num_nf": "num_flows",
    "use_se": "squeeze_excite",
    "res_dist": "residual_posterior",
}
_TRAIN_ARGUMENTS = {
    "batch_size": "batch_size",
    "epochs": "epochs",
    "learning_rate": "learning_rate",
    "learning_rate_min": "min_learning_rate",
    "warmup_epochs": "warmup_epochs",
    "weight_decay": "weight_decay",
    "kl_anneal_portion": "kl_anneal_fraction",
    "kl_const_portion": "kl_constant_fraction",
    "kl_const_coeff": "kl_min_weight",
    "weight_decay_norm": "regularization",
}
# Without these our defaults hold: old files lack the first four, and the training does not change what the model is.
_OPTIONAL = {"arch_instance", "num_mixture_dec", "ada_groups", "min_groups_per_scale", *_TRAIN_ARGUMENTS}

# Arguments about where and how the original ran; all others that start with a prefix below describe the model.
_RUN_ARGUMENTS = ("num_proc_node", "num_process_per_node", "num_workers")
_MODEL_PREFIXES = ("num_", "use_", "res_", "ada_", "arch_", "min_")

# Official data set: (ours, image size with padding, channels, padding).
_DATASETS = {
    "mnist": ("mnist", 32, 1, 2),
    "omniglot": ("omniglot", 32, 1, 2),
    "stacked_mnist": ("stacked_mnist", 32, 3, 2),
    "cifar10": ("cifar10", 32, 3, 0),
    "imagenet_32": ("imagenet32", 32, 3, 0),
    "imagenet_64": ("imagenet64", 64, 3, 0),
    "celeba_64": ("celeba64", 64, 3, 0),
    "celeba_256": ("celeba_hq256", 256, 3, 0),
    "ffhq": ("ffhq256", 256, 3, 0),
    "lsun_church_64": ("lsun_church64", 64, 3, 0),
    "lsun_bedroom_256": ("lsun_bedroom256", 256, 3, 0),
}
_LSUN_128 = re.compile(r"lsun_([a-z]+(?:_[a-z]+)*)_128")

# Official names of the operations of the (encoder, preprocess, decoder, postprocess) cells of each set.
_BN, _BN5 = "res_bnswish", "res_bnswish5"
_E3, _E6 = ["mconv_e3k5g0"], ["mconv_e6k5g0"]
_OPERATIONS = {
    "res_mbconv": ([_BN] * 2, [_BN] * 2, _E6, _E3),
    "res_bnswish": ([_BN] * 2,) * 4,
    "res_bnelu": (["res_bnelu"] * 2,) * 4,
    "res_elu": (["res_elu"] * 2,) * 4,
    "mbconv_sep": (_E6, _E3, _E6, _E3),
    "mbconv_sep11": (["mconv_e6k11g0"], _E3, ["mconv_e6k11g0"], _E3),
    "mbconv_res": (_E6, _E3, [_BN] * 2, [_BN] * 2),
    "mbconv_den": (_E6, ["mconv_e3k5g8"], _E6, ["mconv_e3k5g8"]),
    "res53_mbconv": ([_BN5, _BN], [_BN5, _BN], _E6, _E3),
    "res35_mbconv": ([_BN, _BN5], [_BN, _BN5], _E6, _E3),
    "res55_mbconv": ([_BN5] * 2, [_BN5] * 2, _E6, _E3),
}
_CELL_KINDS = (
    ("normal_enc", "down_enc"),
    ("normal_pre", "down_pre"),
    ("normal_dec", "up_dec"),
    ("normal_post", "up_post"),
)

# Far above any model; a damaged count must fail here, not in 2 ** count.
_LARGEST_COUNT = 4096


def config_from_arguments(arguments, arch_instance=None):
    """The `Config` of a model trained by the authors' program (NVAE, arXiv 2007.03898).

    Args:
        arguments: `OfficialCheckpoint.arguments`. Arguments that old files lack take the value they had before they
            existed.
        arch_instance: `OfficialCheckpoint.arch_instance`; if given, it must agree with the cell set that `arguments`
            name. Default None.

    Returns:
        A valid `Config`.

    Raises:
        ConversionError: an argument is missing, has a wrong type, is out of range, contradicts another, or describes a
            model that cannot be built here; the message names it.
    """
    _refuse_unknown(arguments)
    dataset, size, channels, padding = _dataset(arguments)
    fields = _fields(arguments, _MODEL_ARGUMENTS, ModelConfig)
    for name, field in _MODEL_ARGUMENTS.items():
        if isinstance(fields[field], int) and fields[field] > _LARGEST_COUNT:
            raise _error(name, fields[field], f"at most {_LARGEST_COUNT}")
    _check_cell_set(fields["cell_set"], arch_instance)
    fields |= {"image_height": size, "image_width": size, "image_channels": channels, "padding": padding}
    if channels == 3:
        fields["likelihood"] = "normal" if fields["num_mixtures"] == 1 else "logistic_mixture"
    config = Config(
        model=ModelConfig(**fields),
        # MNIST and OMNIGLOT are binarised; photos, which are the sets without padding, are flipped.
        data=DataConfig(dataset=dataset, binarize=channels == 1, horizontal_flip=padding == 0),
        train=_train_config(arguments),
    )
    try:
        return config.validate()
    except ConfigError as error:
        raise ConversionError(f"args.{_official_name(error)} does not fit: {error}") from error


def _error(name, received, expected):
    return ConversionError(f"args.{name}: expected {expected}. Received: {received}")


def _read(arguments, name, kind, default):
    if name not in arguments:
        if default is _REQUIRED:
            raise _error(name, "no such argument", f"a value ({kind.__name__})")
        return default
    value = arguments[name]
    if isinstance(value, int) and abs(value) > 2**53:
        raise _error(name, f"an integer of {value.bit_length()} bits", f"a value ({kind.__name__})")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _error(name, repr(value)[:200], kind.__name__)
    if kind is float and not math.isfinite(value):
        raise _error(name, value, "a finite number")
    return value


def _fields(arguments, table, cls):
    """Values of the fields of `cls` that a table of arguments names."""
    fields, values = {field.name: field for field in dataclasses.fields(cls)}, {}
    for name, field in table.items():
        default = fields[field].default if name in _OPTIONAL else _REQUIRED
        values[field] = _read(arguments, name, fields[field].type, default)
    return values


def _refuse_unknown(arguments):
    for name, value in arguments.items():
        if not isinstance(name, str):
            raise ConversionError(f"args: expected names. Received: {name!r}")
        known = name in _MODEL_ARGUMENTS or name in _RUN_ARGUMENTS
        # Only an argument that is switched on can have changed the model.
        is_off = value is None or (isinstance(value, bool | int | float | str) and not value)
        if not known and not is_off and name.startswith(_MODEL_PREFIXES):
            raise _error(name, repr(value)[:200], f"only the model arguments {sorted(_MODEL_ARGUMENTS)}")


def _dataset(arguments):
    name = _read(arguments, "dataset", str, _REQUIRED)
    lsun = _LSUN_128.fullmatch(name)
    if lsun:
        return f"lsun_{lsun[1]}128", 128, 3, 0
    if name not in _DATASETS:
        raise _error("dataset", repr(name), f"one of {sorted((*_DATASETS, 'lsun_*_128'))}")
    return _DATASETS[name]


def _check_cell_set(cell_set, arch_instance):
    if cell_set not in CELL_SETS:
        # The original lists res_mbconv9, but cannot build it.
        missing = "; res_mbconv9 names a missing operation" if cell_set == "res_mbconv9" else ""
        raise _error("arch_instance", repr(cell_set), f"one of {CELL_SETS}{missing}")
    expected = {"ar_nn": [""]}  # in every file, used by nothing
    for kinds, operations in zip(_CELL_KINDS, _OPERATIONS[cell_set], strict=True):
        expected.update((kind, operations) for kind in kinds)
    for kind, names in (arch_instance or {}).items():
        if kind not in expected:
            raise ConversionError(f"arch_instance: expected the cells {sorted(expected)}. Received: {kind!r}")
        if list(names) != expected[kind]:
            raise ConversionError(
                f"arch_instance[{kind!r}]: expected {expected[kind]}, because args.arch_instance is {cell_set!r}. "
                f"Received: {names!r}"
            )


def _train_config(arguments):
    values = _fields(arguments, _TRAIN_ARGUMENTS, TrainConfig)
    if _read(arguments, "weight_decay_norm_anneal", bool, False):
        values["initial_regularization"] = _read(arguments, "weight_decay_norm_init", float, _REQUIRED)
        # lambda moves on a logarithmic scale, so neither end can be 0.
        for name, field in (
            ("weight_decay_norm", "regularization"),
            ("weight_decay_norm_init", "initial_regularization"),
        ):
            if values[field] <= 0:
                raise _error(name, values[field], "a positive number, because weight_decay_norm_anneal is True")
    return TrainConfig(**values)


def _official_name(error):
    """The argument behind a `ConfigError`, whose message begins with our field."""
    part, _, field = str(error).partition(":")[0].partition(".")
    table = _MODEL_ARGUMENTS if part == "model" else _TRAIN_ARGUMENTS
    names = [name for name, ours in table.items() if ours == field]
    # The image size is not an argument: it follows from the data set, and must fit the number of scales.
    return names[0] if names else "dataset, args.num_latent_scales or args.num_preprocess_blocks"
