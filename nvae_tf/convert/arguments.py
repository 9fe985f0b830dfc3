"""Converts the command-line arguments in an official checkpoint to a `Config`."""

import re

from nvae_tf.config import ConfigError, config_from_dict
from nvae_tf.convert.torch_reader import ConversionError

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
    **{name: name for name in ("batch_size", "epochs", "learning_rate", "warmup_epochs", "weight_decay")},
    "learning_rate_min": "min_learning_rate",
    "kl_anneal_portion": "kl_anneal_fraction",
    "kl_const_portion": "kl_constant_fraction",
    "kl_const_coeff": "kl_min_weight",
    "weight_decay_norm": "regularization",
}
_ANNEALED_ARGUMENTS = {"weight_decay_norm_init": "initial_regularization"}
# If these are missing, our defaults apply: old files lack the first four, and training does not change the model.
_OPTIONAL = {"arch_instance", "num_mixture_dec", "ada_groups", "min_groups_per_scale", *_TRAIN_ARGUMENTS}

# Arguments about where and how the original ran; all others that start with one of the prefixes describe the model.
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

# Far larger than in any real model or training; a damaged count must fail here, not in 2 ** count.
_LARGEST_COUNTS = {"model": 4096, "train": 2**53}


def config_from_arguments(arguments):
    """The valid `Config` of a model trained by the authors' program (NVAE, arXiv 2007.03898).

    Of `OfficialCheckpoint.arguments`, those that old files lack take the value that the program implied before they
    were added. `ConversionError` names an argument that is missing, has a wrong type, is out of range, contradicts
    another, or describes a model that cannot be built here.
    """
    _refuse_unknown(arguments)
    dataset, size, channels, padding = _dataset(arguments)
    model = _fields(arguments, _MODEL_ARGUMENTS, "model")
    model |= {"image_height": size, "image_width": size, "image_channels": channels, "padding": padding}
    if channels == 3:
        model["likelihood"] = "normal" if model.get("num_mixtures") == 1 else "logistic_mixture"
    train = _fields(arguments, _TRAIN_ARGUMENTS, "train")
    if arguments.get("weight_decay_norm_anneal"):
        train |= _fields(arguments, _ANNEALED_ARGUMENTS, "train")
        # lambda is annealed on a logarithmic scale, so neither end can be 0.
        for name in ("weight_decay_norm", "weight_decay_norm_init"):
            if arguments.get(name) == 0:
                raise _error(name, arguments[name], "a positive number, because weight_decay_norm_anneal is True")
    # MNIST and OMNIGLOT are binarised; photographs, which are the data sets without padding, are flipped.
    data = {"dataset": dataset, "binarize": channels == 1, "horizontal_flip": padding == 0}
    try:
        return config_from_dict({"model": model, "data": data, "train": train})
    except ConfigError as error:
        raise ConversionError(f"args.{_official_name(error)} does not fit: {error}") from error


def _error(name, received, expected):
    return ConversionError(f"args.{name}: expected {expected}. Received: {received}")


def _fields(arguments, table, part):
    """{our field: value} for the arguments in a table."""
    fields, largest = {}, _LARGEST_COUNTS[part]
    for name, field in table.items():
        if name in arguments:
            fields[field] = value = arguments[name]
            if isinstance(value, int) and abs(value) > largest:
                raise _error(name, f"an integer of {value.bit_length()} bits", f"at most {largest}")
        elif name not in _OPTIONAL:
            raise _error(name, "no such argument", "a value")
    return fields


def _refuse_unknown(arguments):
    for name, value in arguments.items():
        if not isinstance(name, str):
            raise ConversionError(f"args: expected names. Received: {name!r}")
        known = name in _MODEL_ARGUMENTS or name in _RUN_ARGUMENTS
        # Only an argument that is switched on can have affected the model.
        is_off = value is None or (isinstance(value, bool | int | float | str) and not value)
        if not known and not is_off and name.startswith(_MODEL_PREFIXES):
            raise _error(name, repr(value)[:200], f"only the model arguments {sorted(_MODEL_ARGUMENTS)}")


def _dataset(arguments):
    name = arguments.get("dataset", "no such argument")
    if not isinstance(name, str) or not (name in _DATASETS or _LSUN_128.fullmatch(name)):
        raise _error("dataset", repr(name)[:200], f"one of {sorted((*_DATASETS, 'lsun_*_128'))}")
    lsun = _LSUN_128.fullmatch(name)
    return (f"lsun_{lsun[1]}128", 128, 3, 0) if lsun else _DATASETS[name]


def _official_name(error):
    """The argument behind a `ConfigError`, whose message begins with our field."""
    part, _, field = str(error).partition(":")[0].partition(".")
    table = _MODEL_ARGUMENTS if part == "model" else _TRAIN_ARGUMENTS | _ANNEALED_ARGUMENTS
    names = [name for name, ours in table.items() if ours == field]
    # The image size is not an argument: it follows from the data set, and must fit the number of scales.
    return names[0] if names else "dataset, args.num_latent_scales or args.num_preprocess_blocks"
