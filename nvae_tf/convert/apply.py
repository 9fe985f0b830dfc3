"""Assigns the arrays of an official checkpoint to a model, strictly."""

import contextlib

from nvae_tf import hierarchy
from nvae_tf.convert import name_map as names
from nvae_tf.convert.arguments import config_from_arguments
from nvae_tf.convert.torch_reader import ConversionError
from nvae_tf.models.nvae import NVAE, shapes_only


def _listing(title, items):
    return f"\n  {title}:\n    " + "\n    ".join(sorted(items)) if items else ""


def match(arrays, model):
    """Pairs every variable of an `NVAE` with its array, in its layout, from {official name: array}.

    Raises:
        ConversionError: an entry is missing or superfluous, or a shape differs; the message lists the names.
    """
    variables = names.name_map(model)
    extra = {name for name in set(arrays) - set(variables) if not name.endswith(names.IGNORED_SUFFIXES)}
    if not model.decoder.has_start:
        extra.discard(names.UNUSED_START)
    missing = set(variables) - set(arrays)
    pairs, shapes = [], []
    for name in variables.keys() - missing:
        variable, array = variables[name], arrays[name]
        with contextlib.suppress(ValueError):  # the array has another rank
            array = names.to_our_layout(array, variable)
        if array.shape != tuple(variable.shape):
            shapes.append(f"{name}: expected {tuple(variable.shape)}. Received: {array.shape}")
        pairs.append((variable, array))
    if extra or missing or shapes:
        raise ConversionError(
            "The checkpoint does not fit the model that its arguments describe."
            + _listing("in the checkpoint, not in the model", extra)
            + _listing("in the model, not in the checkpoint", missing)
            + _listing("shapes (in the model's layout) that differ", shapes)
        )
    return pairs


def _check_size(config, arrays):
    """Refuses arguments that describe more layers than the file has entries, before any layer is created."""
    groups = hierarchy.num_groups(config)
    layers = config.preprocess_blocks * (config.preprocess_cells + config.postprocess_cells)
    layers += (groups - 1) * (config.encoder_cells_per_group + config.decoder_cells_per_group)
    layers += groups * config.num_flows
    if layers > len(arrays):
        raise ConversionError(
            f"state_dict: expected at least {layers} entries according to args. Received: {len(arrays)}"
        )


def model_from_checkpoint(checkpoint):
    """The `NVAE` that an `OfficialCheckpoint` describes, with its weights, and the run's `Config` as its `config`.

    Names and shapes are matched before memory is allocated for any variable; `ConversionError` as for `match` and
    `config_from_arguments`.
    """
    config = config_from_arguments(checkpoint.arguments)
    _check_size(config.model, checkpoint.arrays)
    # First without values, because a file of a few bytes can describe a model that does not fit in memory.
    match(checkpoint.arrays, shapes_only(config.model))
    model = NVAE(config.model, name="nvae")
    for variable, array in match(checkpoint.arrays, model):
        variable.assign(array)
    model.config = config
    return model
