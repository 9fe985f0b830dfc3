"""Maps the entries of an official checkpoint to the variables of the model.

It walks the model in the order of the official forward pass, by which the flat lists of the checkpoint are numbered.
Nothing is read or written.
"""

from nvae_tf.layers.cells import Cell, EluConv, InvertedResidual, NormSwishConv, Resampling

# Suffixes of the entries of counters and buffers, which are not weights.
IGNORED_SUFFIXES = ("weight_normalized", "num_batches_tracked")
UNUSED_START = "prior_ftr0"

# Order of the axes of an official array in our variable, by rank: OIHW -> HWIO, CHW -> HWC.
_AXES = {1: (0,), 2: (1, 0), 3: (1, 2, 0), 4: (2, 3, 1, 0)}


def to_our_layout(array, variable):
    """An official array in the layout of our variable; raises `ValueError` if it has another rank."""
    rank = len(variable.shape)
    if rank == 1 and array.ndim == 4:
        array = array.squeeze((1, 2, 3))  # a log norm, (out, 1, 1, 1)
    return array.transpose(_AXES[rank])


def _conv(prefix, layer):
    """Entries of a convolution, or of a dense layer."""
    entries = [(f"{prefix}.weight", layer.kernel)]
    if layer.use_bias:
        entries.append((f"{prefix}.bias", layer.bias))
    if getattr(layer, "weight_norm", False):
        entries.append((f"{prefix}.log_weight_norm", layer.log_norm))
    return entries


def _norm(prefix, layer):
    return [
        (f"{prefix}.weight", layer.gamma),
        (f"{prefix}.bias", layer.beta),
        (f"{prefix}.running_mean", layer.moving_mean),
        (f"{prefix}.running_var", layer.moving_variance),
    ]


def _operation(prefix, layer):
    if isinstance(layer, InvertedResidual):
        return _inverted_residual(prefix, layer)
    conv = _conv(f"{prefix}.conv_0", layer.conv)
    if isinstance(layer, EluConv):
        return conv
    return _norm(f"{prefix}.bn_act" if isinstance(layer, NormSwishConv) else f"{prefix}.bn.bn", layer.norm) + conv


def _inverted_residual(prefix, layer):
    # In an upsampling cell, index 0 is the upsampling itself, which has no parameters.
    first = 1 if layer.resampling is Resampling.UP else 0
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
    if cell.resampling is Resampling.DOWN:
        for index, layer in enumerate(cell.skip.convolutions, start=1):
            entries += _conv(f"{prefix}.skip.conv_{index}", layer)
    elif cell.resampling is Resampling.UP:
        entries += _conv(f"{prefix}.skip.1", cell.skip.conv)
    for index, operation in enumerate(cell.operations):
        entries += _operation(f"{prefix}._ops.{index}", operation)
    if cell.squeeze_excite is not None:
        entries += _conv(f"{prefix}.se.se.0", cell.squeeze_excite.reduce)
        entries += _conv(f"{prefix}.se.se.2", cell.squeeze_excite.expand)
    return entries


def _flat_list(name, items):
    """Entries of cells and combiners that share one numbering; None is skipped."""
    entries = []
    for index, item in enumerate(item for item in items if item is not None):
        prefix = f"{name}.{index}"
        entries += _cell(prefix, item) if isinstance(item, Cell) else _conv(f"{prefix}.conv", item.conv)
    return entries


def _towers(model):
    """Cells, combiners and resampling cells of the bottom-up and the top-down tower."""
    up, down = [], []
    for (cells, downsampling), group in zip(model.encoder.stages(), reversed(model.groups), strict=True):
        up += [*cells, group.encoder_combiner, downsampling]
    for upsampling, group in model.decoder.stages():
        down += [upsampling, *group.cells, group.merge]
    return _flat_list("enc_tower", up) + _flat_list("dec_tower", down)


def _groups(model):
    entries = []
    for index, group in enumerate(model.groups):
        entries += _conv(f"enc_sampler.{index}", group.posterior_head)
        if group.prior_head is not None:
            entries += _conv(f"dec_sampler.{index - 1}.1", group.prior_head)
        for step, flow in enumerate(group.flows):
            for cell, net in (("cell1", flow.net), ("cell2", flow.mirrored_net)):
                prefix = f"nf_cells.{index * len(group.flows) + step}.{cell}"
                entries += _conv(f"{prefix}.conv.convz.0", net.conv_in)
                entries += _conv(f"{prefix}.conv.convz.2", net.conv_hidden)
                entries += _conv(f"{prefix}.mu.conv_0", net.conv_out)
    return entries


def name_map(model):
    """{official name: Keras variable} of all variables of a built `NVAE`."""
    encoder, decoder = model.encoder, model.decoder
    if decoder.has_start:
        middle = [(UNUSED_START, decoder.start), *_towers(model)]
    else:
        middle = _conv("stem_decoder", model.groups[0].merge)
    return dict(
        _conv("stem", encoder.stem)
        + _flat_list("pre_process", encoder.preprocess)
        + _conv("enc0.1", encoder.top)
        + _groups(model)
        + middle
        + _flat_list("post_process", decoder.postprocess)
        + _conv("image_conditional.1", decoder.likelihood_head)
    )
