"""Which entry of an official checkpoint is which variable of the model.

A pure mapping: it walks the model in the order of the official forward pass, which numbers the flat lists of the
checkpoint, and reads or writes nothing.
"""

import dataclasses
import functools

from nvae_tf.layers import cells as cell_layers

# Entries that end so hold counters and buffers that the weights do not need.
IGNORED_SUFFIXES = ("weight_normalized", "num_batches_tracked")
UNUSED_START = "prior_ftr0"


def _kernel(array):
    return array.transpose(2, 3, 1, 0)  # OIHW -> HWIO


def _transpose(array):
    return array.T  # (out, in) -> (in, out)


def _vector(array):
    return array.squeeze((1, 2, 3))  # (out, 1, 1, 1) -> (out,)


def _channels_last(array):
    return array.transpose(1, 2, 0)  # CHW -> HWC


def _same(array):
    return array


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a checkpoint.

    Attributes:
        name: official name.
        variable: keras variable of the model.
        layout: function from the official array to the variable's layout.
    """

    name: str
    variable: object
    layout: object


def _conv(prefix, layer):
    entries = [Entry(f"{prefix}.weight", layer.kernel, _kernel)]
    if layer.use_bias:
        entries.append(Entry(f"{prefix}.bias", layer.bias, _same))
    if layer.weight_norm:
        entries.append(Entry(f"{prefix}.log_weight_norm", layer.log_norm, _vector))
    return entries


def _norm(prefix, layer):
    return [
        Entry(f"{prefix}.weight", layer.gamma, _same),
        Entry(f"{prefix}.bias", layer.beta, _same),
        Entry(f"{prefix}.running_mean", layer.moving_mean, _same),
        Entry(f"{prefix}.running_var", layer.moving_variance, _same),
    ]


def _dense(prefix, layer):
    return [Entry(f"{prefix}.weight", layer.kernel, _transpose), Entry(f"{prefix}.bias", layer.bias, _same)]


@functools.singledispatch
def _operation(layer, prefix):
    raise TypeError(f"{prefix}: no official names are known for {type(layer).__name__}")


@_operation.register
def _(layer: cell_layers.NormSwishConv, prefix):
    return _norm(f"{prefix}.bn_act", layer.norm) + _conv(f"{prefix}.conv_0", layer.conv)


@_operation.register
def _(layer: cell_layers.NormEluConv, prefix):
    return _norm(f"{prefix}.bn.bn", layer.norm) + _conv(f"{prefix}.conv_0", layer.conv)


@_operation.register
def _(layer: cell_layers.EluConv, prefix):
    return _conv(f"{prefix}.conv_0", layer.conv)


@_operation.register
def _(layer: cell_layers.InvertedResidual, prefix):
    # In an upsampling cell index 0 is the parameter-free upsampling.
    first = 1 if layer.resampling is cell_layers.Resampling.UP else 0
    names = [f"{prefix}.conv.{first + i}" for i in range(5)]
    return [
        *_norm(f"{names[0]}.bn", layer.norm_in),
        *_conv(f"{names[1]}.conv.0", layer.expand),
        *_norm(f"{names[1]}.conv.1", layer.norm_expand),
        *_conv(f"{names[2]}.conv.0", layer.mix),
        *_norm(f"{names[2]}.conv.1", layer.norm_mix),
        *_conv(names[3], layer.project),
        *_norm(f"{names[4]}.bn", layer.norm_out),
    ]


def _cell(prefix, cell):
    entries = []
    if cell.resampling is cell_layers.Resampling.DOWN:
        for index, layer in enumerate(cell.skip.convolutions, start=1):
            entries += _conv(f"{prefix}.skip.conv_{index}", layer)
    elif cell.resampling is cell_layers.Resampling.UP:
        entries += _conv(f"{prefix}.skip.1", cell.skip.conv)
    for index, operation in enumerate(cell.operations):
        entries += _operation(operation, f"{prefix}._ops.{index}")
    if cell.squeeze_excite is not None:
        entries += _dense(f"{prefix}.se.se.0", cell.squeeze_excite.reduce)
        entries += _dense(f"{prefix}.se.se.2", cell.squeeze_excite.expand)
    return entries


def _flat_list(name, items):
    """Entries of cells and combiners that share one numbering."""
    entries = []
    for index, item in enumerate(items):
        if isinstance(item, cell_layers.Cell):
            entries += _cell(f"{name}.{index}", item)
        else:
            entries += _conv(f"{name}.{index}.conv", item.conv)
    return entries


def _encoder_items(model):
    """Cells, encoder combiners and downsampling cells, bottom-up."""
    items = []
    stages = model.encoder.stages()
    for (cells, down), group in zip(stages, reversed(model.groups if stages else []), strict=True):
        items += cells
        if group.encoder_combiner is not None:
            items.append(group.encoder_combiner)
        if down is not None:
            items.append(down)
    return items


def _decoder_items(model):
    """Cells, decoder combiners and upsampling cells, top-down."""
    items = []
    for up, group in model.decoder.stages():
        if up is not None:
            items.append(up)
        items += group.cells
        if group.merge_state:
            items.append(group.merge)
    return items


def _flow(prefix, net):
    return [
        *_conv(f"{prefix}.conv.convz.0", net.conv_in),
        *_conv(f"{prefix}.conv.convz.2", net.conv_hidden),
        *_conv(f"{prefix}.mu.conv_0", net.conv_out),
    ]


def _groups(model):
    entries = []
    for index, group in enumerate(model.groups):
        entries += _conv(f"enc_sampler.{index}", group.posterior_head)
        if group.prior_head is not None:
            entries += _conv(f"dec_sampler.{index - 1}.1", group.prior_head)
        for step, flow in enumerate(group.flows):
            prefix = f"nf_cells.{index * len(group.flows) + step}"
            entries += _flow(f"{prefix}.cell1", flow.net) + _flow(f"{prefix}.cell2", flow.mirrored_net)
    return entries


def name_map(model):
    """Every variable of the model with its official name.

    Args:
        model: built `NVAE`.

    Returns:
        List of `Entry`, each variable of the model exactly once.
    """
    encoder, decoder = model.encoder, model.decoder
    entries = _conv("stem", encoder.stem)
    entries += _flat_list("pre_process", encoder.preprocess)
    entries += _flat_list("enc_tower", _encoder_items(model))
    entries += _conv("enc0.1", encoder.top)
    entries += _groups(model)
    if decoder.has_start:
        entries.append(Entry(UNUSED_START, decoder.start, _channels_last))
        entries += _flat_list("dec_tower", _decoder_items(model))
    else:
        entries += _conv("stem_decoder", model.groups[0].merge)
    entries += _flat_list("post_process", decoder.postprocess)
    entries += _conv("image_conditional.1", decoder.likelihood_head)
    return entries
