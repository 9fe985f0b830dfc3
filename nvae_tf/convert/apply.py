"""Assigns the arrays of an official checkpoint to a model, strictly."""

from nvae_tf import hierarchy
from nvae_tf.convert import name_map as names
from nvae_tf.convert.arguments import config_from_arguments
from nvae_tf.convert.torch_reader import ConversionError
from nvae_tf.models.nvae import NVAE, shapes_only


def _listing(title, items):
    return f"\n  {title}:\n    " + "\n    ".join(sorted(items)) if items else ""


def match(arrays, model):
    """Pairs (variable, array in the variable's layout) for every variable of the model.

    Args:
        arrays: {official name: array}.
        model: `NVAE`.

    Raises:
        ConversionError: an entry is missing or left over, or a shape differs; the message lists the names.
    """
    entries = names.name_map(model)
    wanted = {entry.name for entry in entries}
    extra = {name for name in set(arrays) - wanted if not name.endswith(names.IGNORED_SUFFIXES)}
    if not model.decoder.has_start:
        extra.discard(names.UNUSED_START)
    missing = wanted - set(arrays)
    pairs, shapes = [], []
    for entry in entries:
        if entry.name in missing:
            continue
        try:
            array = entry.layout(arrays[entry.name])
        except ValueError:  # the array has another rank
            array = arrays[entry.name]
        if array.shape != tuple(entry.variable.shape):
            shapes.append(f"{entry.name}: expected {tuple(entry.variable.shape)}. Received: {array.shape}")
        pairs.append((entry.variable, array))
    if extra or missing or shapes:
        raise ConversionError(
            "The checkpoint does not fit the model that its arguments describe."
            + _listing("in the checkpoint, not in the model", extra)
            + _listing("in the model, not in the checkpoint", missing)
            + _listing("shapes (in the model's layout) that differ", shapes)
        )
    return pairs


def _check_size(config, arrays):
    """Refuses arguments that describe a model too large for the file, of which not even the shapes could be made.

    Each cell and each flow step has at least one entry. The masks of the flows are arrays, not variables; those of the
    first convolutions have as many values as the kernels they mask.
    """
    groups, latents = hierarchy.num_groups(config), config.latent_channels
    cells = config.preprocess_blocks * config.preprocess_cells + config.postprocess_blocks * config.postprocess_cells
    cells += (groups - 1) * (config.encoder_cells_per_group + config.decoder_cells_per_group)
    steps = groups * config.num_flows
    masks = 2 * steps * 9 * latents * 6 * latents
    values = sum(array.size for array in arrays.values())
    for what, least, received in (("entries", groups + cells + steps, len(arrays)), ("values", masks, values)):
        if received < least:
            raise ConversionError(
                f"state_dict: expected at least {least} {what} according to args. Received: {received}"
            )


def model_from_checkpoint(checkpoint):
    """Builds the model that an official checkpoint describes and sets its weights.

    Names and shapes are matched before any variable takes memory.

    Args:
        checkpoint: `OfficialCheckpoint`.

    Returns:
        `NVAE`, with the run's `Config` as its `config`.

    Raises:
        ConversionError: see `match` and `config_from_arguments`.
    """
    config = config_from_arguments(checkpoint.arguments, checkpoint.arch_instance)
    _check_size(config.model, checkpoint.arrays)
    # Without values first, because a file of a few bytes can describe a model larger than the memory.
    match(checkpoint.arrays, shapes_only(config.model))
    model = NVAE(config.model, name="nvae")
    for variable, array in match(checkpoint.arrays, model):
        variable.assign(array)
    model.config = config
    return model
